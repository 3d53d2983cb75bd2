package main

import (
	"cmp"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"

	"sluice/identity"
	"sluice/mesh"
)

// newestTerm puts the members that the latest election made what they are first,
// others of the same term in random order. Two members can say that they are
// primary for a moment; the one with the higher term is right. Terms mean nothing
// among secondaries, where they agree.
func newestTerm(instances []mesh.Instance) []mesh.Instance {
	ordered := slices.Clone(instances)
	rand.Shuffle(len(ordered), func(i, j int) { ordered[i], ordered[j] = ordered[j], ordered[i] })
	slices.SortStableFunc(ordered, func(a, b mesh.Instance) int { return cmp.Compare(term(b), term(a)) })
	return ordered
}

// nearest puts the instances of the own datacenter first, then those of the others in
// their order, each in random order.
func nearest(datacenters []string) func([]mesh.Instance) []mesh.Instance {
	return func(instances []mesh.Instance) []mesh.Instance {
		ordered := slices.Clone(instances)
		rand.Shuffle(len(ordered), func(i, j int) { ordered[i], ordered[j] = ordered[j], ordered[i] })
		slices.SortStableFunc(ordered, func(a, b mesh.Instance) int {
			return cmp.Compare(slices.Index(datacenters, a.ID.Datacenter()), slices.Index(datacenters, b.ID.Datacenter()))
		})
		return ordered
	}
}

// term is the election term that an instance was registered with; 0 if it names
// none.
func term(instance mesh.Instance) int64 {
	number, err := strconv.ParseInt(instance.Meta["term"], 10, 64)
	if err != nil {
		return 0
	}
	return max(number, 0)
}

// primaryDoor returns where the member behind an instance takes connections once
// it is primary, and as whom. The term is left out: it is that of a role that the
// member has now or had, and not of the one that is asked for.
func primaryDoor(instance mesh.Instance) (mesh.Instance, bool) {
	host, _, err := net.SplitHostPort(instance.Address)
	if err != nil {
		return mesh.Instance{}, false
	}
	id, err := identity.New(instance.ID.TrustDomain(), instance.ID.Datacenter(), primary)
	if err != nil {
		return mesh.Instance{}, false
	}
	return mesh.Instance{
		ServiceID: primary + "-" + instance.Node, Node: instance.Node,
		Address: net.JoinHostPort(host, strconv.Itoa(primaryDoorPort)), ID: id,
		Meta: map[string]string{"member": instance.Meta["member"]},
	}, true
}
