package consul

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"

	"github.com/hashicorp/consul/api"

	"sluice/identity"
	"sluice/mesh"
)

// instanceList is one answer about a service's passing instances.
type instanceList struct {
	instances []mesh.Instance
	// hidden says that the answer is empty because the token may not see what is
	// there.
	hidden bool
	// meshed are those that are in the mesh, healthy or not, and those that a sidecar
	// proxy serves, by node and ID; nil if nobody asked.
	meshed map[[2]string]bool
}

func (l instanceList) equal(other instanceList) bool {
	return l.hidden == other.hidden && maps.Equal(l.meshed, other.meshed) && slices.EqualFunc(l.instances, other.instances, sameInstance)
}

func sameInstance(a, b mesh.Instance) bool {
	return a.ServiceID == b.ServiceID && a.Node == b.Node && a.Address == b.Address && a.ID == b.ID &&
		slices.Equal(a.Tags, b.Tags) && maps.Equal(a.Meta, b.Meta)
}

// instancesOf translates an answer of /v1/health/connect. An entry that cannot be
// dialled as service (a gateway, no port, a name that no identity can have) is
// left out.
func instancesOf(entries []*api.ServiceEntry, service, trustDomain string) []mesh.Instance {
	instances := make([]mesh.Instance, 0, len(entries))
	for _, entry := range entries {
		if instance, err := instanceOf(entry, service, trustDomain); err == nil {
			instances = append(instances, instance)
		}
	}
	slices.SortFunc(instances, compareInstances)
	return instances
}

func compareInstances(a, b mesh.Instance) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.ServiceID, b.ServiceID))
}

func instanceOf(entry *api.ServiceEntry, service, trustDomain string) (mesh.Instance, error) {
	if entry.Node == nil || entry.Service == nil {
		return mesh.Instance{}, errors.New("entry without a node or a service")
	}
	kind := entry.Service.Kind
	if kind != api.ServiceKindTypical && kind != api.ServiceKindConnectProxy {
		return mesh.Instance{}, fmt.Errorf("a %s does not answer as %s", kind, service)
	}
	address := addressOf(entry)
	if address == "" {
		return mesh.Instance{}, errors.New("no address or no port")
	}
	id, err := identity.New(trustDomain, entry.Node.Datacenter, service)
	if err != nil {
		return mesh.Instance{}, err
	}
	return mesh.Instance{
		ServiceID: entry.Service.ID, Node: entry.Node.Node, ID: id,
		Address: address,
		Tags:    entry.Service.Tags, Meta: entry.Service.Meta,
	}, nil
}

// addressOf returns "host:port" of an instance, "" if it has none.
func addressOf(entry *api.ServiceEntry) string {
	host := entry.Service.Address
	if host == "" {
		host = entry.Node.Address
	}
	if host == "" || entry.Service.Port <= 0 {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(entry.Service.Port))
}
