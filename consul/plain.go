package consul

import (
	"context"
	"slices"

	"github.com/hashicorp/consul/api"

	"sluice/consul/answers"
	"sluice/mesh"
)

// onlyPlain leaves out of an answer what takes part in Connect itself: of a service in
// the mesh that is all, which another watch is told of already.
const onlyPlain = "Service.Connect.Native == false"

// plainServices leaves out of the list of services what has no instance but those, and
// proxies.
const plainServices = `ServiceConnect.Native == false and ServiceKind == ""`

// watchPlain follows the passing instances of service that are outside the mesh
// and have a tag that begins with prefix.
func (c *Client) watchPlain(service, prefix string, kick chan<- struct{}) *Watch[instanceList] {
	var reader answers.Entries
	return newWatch(watchConfig[instanceList]{
		name: "plain instances of " + service, equal: instanceList.equal, kick: kick, logger: c.log,
		query: func(_ context.Context, options *api.QueryOptions) (instanceList, *api.QueryMeta, error) {
			options.Filter = onlyPlain
			var entries []*answers.Entry
			_, meta, err := c.long.Health().Service(service, "", true, readEntries(options, &reader, &entries))
			if err != nil {
				return instanceList{}, nil, explain("find plain instances", serviceRule(service, "read"), err)
			}
			return instanceList{instances: plainOf(entries, prefix)}, meta, nil
		},
	})
}

// outside reports whether an instance does not take part in Connect itself. A
// sidecar proxy may still serve it; see namesOf.
func outside(entry *answers.Entry) bool {
	return entry.Kind == api.ServiceKindTypical && !entry.Native
}

// plainOf translates an answer of /v1/health/service. The instances have no ID.
func plainOf(entries []*answers.Entry, prefix string) []mesh.Instance {
	var instances []mesh.Instance
	for _, entry := range entries {
		if !outside(entry) || !hasPrefix(entry.Tags, prefix) {
			continue
		}
		if address := addressOf(entry); address != "" {
			instances = append(instances, mesh.Instance{
				ServiceID: entry.ID, Node: entry.Node, Address: address,
				Tags: entry.Tags, Meta: entry.Meta,
			})
		}
	}
	slices.SortFunc(instances, compareInstances)
	return instances
}

// namesOf returns the instances of an answer of /v1/health/connect, and those that
// the sidecar proxies among them serve, by node and ID.
func namesOf(entries []*answers.Entry) map[[2]string]bool {
	names := make(map[[2]string]bool, len(entries))
	for _, entry := range entries {
		names[[2]string{entry.Node, entry.ID}] = true
		if entry.ProxyFor != "" {
			names[[2]string{entry.Node, entry.ProxyFor}] = true
		}
	}
	return names
}

// passing returns the entries of which every check passes.
func passing(entries []*answers.Entry) []*answers.Entry {
	list := make([]*answers.Entry, 0, len(entries))
	for _, entry := range entries {
		if entry.Passing {
			list = append(list, entry)
		}
	}
	return list
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
