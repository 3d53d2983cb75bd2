package main

import (
	"testing"

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
