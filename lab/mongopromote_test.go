package lab

import (
	"log/slog"
	"strings"
	"testing"

	"sluice/lab/engine"
)

func TestADatacenterIsPromotedOnlyWhereNothingBetterIsPossible(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func([]MongoMember)
		dc    string
		want  string
	}{
		"dc1 is lost":               {func([]MongoMember) {}, "dc2", ""},
		"it has the primary":        {func([]MongoMember) {}, "dc1", "mongo-1 is primary already"},
		"it hears the primary":      {func(m []MongoMember) { m[2].Report.Peers[0].Lost = false }, "dc2", "mongo-4 hears the primary, mongo-1"},
		"half of it is no majority": {func(m []MongoMember) { m[3].Report = nil }, "dc2", "only 1 of its 2 members"},
		"none of it is healthy": {func(m []MongoMember) {
			m[2].Report.Role, m[3].Report = "recovering", nil
		}, "dc2", "no member in dc2 is a healthy secondary"},
	} {
		members := parted()
		c.spoil(members)
		chosen, err := promotable(judgeSet(members), c.dc)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err == nil && chosen.Node != "mongo-4" {
			t.Errorf("%s: it would go on from %s, which has less than mongo-4", name, chosen.Node)
		}
	}
}

// parting is an engine in which one datacenter is cut off.
type parting struct {
	engine.Engine
	partitioner
	cut string
}

func (p parting) IsDatacenterCut(name string) engine.Direction {
	if name == p.cut {
		return engine.In
	}
	return engine.NoDirection
}

func TestOnlyNewsOfThePrimaryDatacenterIsKeptFromOneThatIsPartedFromIt(t *testing.T) {
	for _, cut := range []string{"dc1", "dc2", ""} {
		s, err := composeSupervisor(DefaultTopology(".."), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		s.engine = parting{Engine: s.engine, cut: cut}
		for _, n := range s.all() {
			for _, local := range []bool{true, false} {
				want := cut != "" && !local && n.datacenter.Name == "dc2"
				if got := s.deafness(n, local); strings.Contains(got, "parted") != want {
					t.Errorf("%s cut, %s, news of the own datacenter %t: %q", cut, n.node.Name, local, got)
				}
			}
		}
	}
}
