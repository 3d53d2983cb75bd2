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

	"sluice/consul/answers"
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
		answers.SameTags(a.Tags, b.Tags) && maps.Equal(a.Meta, b.Meta)
}

// instancesOf translates an answer of /v1/health/connect. An entry that cannot be
// dialled as service (a gateway, no port, a name that no identity can have) is
// left out.
func instancesOf(entries []*answers.Entry, service, trustDomain string) []mesh.Instance {
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

func instanceOf(entry *answers.Entry, service, trustDomain string) (mesh.Instance, error) {
	if entry.Kind != api.ServiceKindTypical && entry.Kind != api.ServiceKindConnectProxy {
		return mesh.Instance{}, fmt.Errorf("a %s does not answer as %s", entry.Kind, service)
	}
	address := addressOf(entry)
	if address == "" {
		return mesh.Instance{}, errors.New("no address or no port")
	}
	id, err := identity.New(trustDomain, entry.Datacenter, service)
	if err != nil {
		return mesh.Instance{}, err
	}
	return mesh.Instance{
		ServiceID: entry.ID, Node: entry.Node, ID: id,
		Address: address,
		Tags:    entry.Tags, Meta: entry.Meta,
	}, nil
}

// addressOf returns "host:port" of an instance, "" if it has none.
func addressOf(entry *answers.Entry) string {
	host := cmp.Or(entry.Address, entry.NodeAddress)
	if host == "" || entry.Port <= 0 {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(entry.Port))
}
