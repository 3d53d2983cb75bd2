package consul

import (
	"context"
	"slices"

	"github.com/hashicorp/consul/api"

	"sluice/mesh"
)

// watchPlain follows the passing instances of service that are outside the mesh
// and have a tag that begins with prefix.
func (c *Client) watchPlain(service, prefix string, kick chan<- struct{}) *Watch[instanceList] {
	return newWatch(watchConfig[instanceList]{
		name: "plain instances of " + service, equal: instanceList.equal, kick: kick, logger: c.log,
		query: func(_ context.Context, options *api.QueryOptions) (instanceList, *api.QueryMeta, error) {
			entries, meta, err := c.long.Health().Service(service, "", true, options)
			if err != nil {
				return instanceList{}, nil, explain("find plain instances", serviceRule(service, "read"), err)
			}
			return instanceList{instances: plainOf(entries, prefix)}, meta, nil
		},
	})
}

// outside reports whether an instance does not take part in Connect itself. A
// sidecar proxy may still serve it; see namesOf.
func outside(entry *api.ServiceEntry) bool {
	return entry.Node != nil && entry.Service != nil && entry.Service.Kind == api.ServiceKindTypical &&
		(entry.Service.Connect == nil || !entry.Service.Connect.Native)
}

// plainOf translates an answer of /v1/health/service. The instances have no ID.
func plainOf(entries []*api.ServiceEntry, prefix string) []mesh.Instance {
	var instances []mesh.Instance
	for _, entry := range entries {
		if !outside(entry) || !hasPrefix(entry.Service.Tags, prefix) {
			continue
		}
		if address := addressOf(entry); address != "" {
			instances = append(instances, mesh.Instance{
				ServiceID: entry.Service.ID, Node: entry.Node.Node, Address: address,
				Tags: entry.Service.Tags, Meta: entry.Service.Meta,
			})
		}
	}
	slices.SortFunc(instances, compareInstances)
	return instances
}

// namesOf returns the instances of an answer of /v1/health/connect, and those that
// the sidecar proxies among them serve, by node and ID.
func namesOf(entries []*api.ServiceEntry) map[[2]string]bool {
	names := make(map[[2]string]bool, len(entries))
	for _, entry := range entries {
		if entry.Node == nil || entry.Service == nil {
			continue
		}
		names[[2]string{entry.Node.Node, entry.Service.ID}] = true
		if proxy := entry.Service.Proxy; proxy != nil && proxy.DestinationServiceID != "" {
			names[[2]string{entry.Node.Node, proxy.DestinationServiceID}] = true
		}
	}
	return names
}

// passing returns the entries of which every check passes.
func passing(entries []*api.ServiceEntry) []*api.ServiceEntry {
	return slices.DeleteFunc(entries, func(entry *api.ServiceEntry) bool {
		return entry.Checks.AggregatedStatus() != api.HealthPassing
	})
}

// mergeInstances puts instances outside the mesh behind those in it, without any
// that is in the mesh after all: one watch may hear of a change before the other,
// and a sidecar that is not healthy is no leave to call past it.
func mergeInstances(list instanceList, outside []mesh.Instance) []mesh.Instance {
	merged := slices.Clip(list.instances)
	for _, i := range outside {
		if !list.meshed[[2]string{i.Node, i.ServiceID}] {
			merged = append(merged, i)
		}
	}
	return merged
}
