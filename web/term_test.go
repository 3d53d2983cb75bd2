package main

import (
	"testing"

	"sluice/identity"
	"sluice/mesh"
)

func TestOfTwoPrimariesTheOneOfTheLaterElectionIsTriedFirst(t *testing.T) {
	instance := func(node, term string) mesh.Instance {
		return mesh.Instance{Node: node, Meta: map[string]string{"term": term}}
	}
	given := []mesh.Instance{instance("none", ""), instance("old", "9"), instance("new", "10"), instance("odd", "x")}
	for range 50 { // the order among equals is random
		got := newestTerm(given)
		if len(got) != len(given) || got[0].Node != "new" || got[1].Node != "old" {
			t.Fatalf("order is %v, want new, old, then the others", got)
		}
	}
	if given[0].Node != "none" {
		t.Error("the resolver's snapshot was changed")
	}
}

func TestThePrimaryIsSoughtAtEveryMembersDoor(t *testing.T) {
	id, err := identity.New("11111111-2222-3333-4444-555555555555.consul", "dc2", secondary)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := primaryDoor(mesh.Instance{Node: "mongo-4", Address: "198.18.2.21:27019", ID: id, Meta: map[string]string{"term": "3", "member": "127.0.10.4:27017"}})
	if !ok || got.Address != "198.18.2.21:27018" || got.ID.Service() != primary || got.ID.Datacenter() != "dc2" || got.ID.TrustDomain() != id.TrustDomain() {
		t.Errorf("got %+v, %v", got, ok)
	}
	if term(got) != 0 || got.Meta["member"] != "127.0.10.4:27017" {
		t.Errorf("metadata %v: the term is that of another role", got.Meta)
	}
	if _, ok := primaryDoor(mesh.Instance{Address: "nowhere"}); ok {
		t.Error("a door at an address without a port")
	}
}
