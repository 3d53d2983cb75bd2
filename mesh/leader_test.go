package mesh

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestNoEpochIsEverLeftForALowerOne throws random news at a leadership and holds
// what must always be true of it.
func TestNoEpochIsEverLeftForALowerOne(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		var l leadership
		epochOf := map[string]int64{}
		epoch := func(i Instance) int64 { return epochOf[i.Address] }
		for step := range 200 {
			address := fmt.Sprint("m", random.IntN(4))
			n := int64(random.IntN(12))
			before := l.epoch
			switch random.IntN(4) {
			case 0:
				if higher := l.learn(address, n); higher != (n > before) {
					t.Fatalf("seed %d step %d: learn(%d) over %d = %v", seed, step, n, before, higher)
				}
			case 1:
				if took := l.elect(Instance{Address: address}, n, nil); took == (n > 0 && n < before && address != l.holder) {
					t.Fatalf("seed %d step %d: elect(%d) over %d = %v", seed, step, n, before, took)
				}
			case 2:
				l.drop()
			case 3:
				epochOf[address] = n
			}
			if l.epoch < before {
				t.Fatalf("seed %d step %d: epoch went from %d to %d", seed, step, before, l.epoch)
			}
			if l.leader != nil && l.leader.epoch != 0 && l.leader.epoch != l.epoch {
				t.Fatalf("seed %d step %d: a leader of epoch %d in epoch %d", seed, step, l.leader.epoch, l.epoch)
			}
			checkEligible(t, &l, random, epoch)
			p := place{address, n}
			if l.stale(n) && !l.overtaken(p, address) {
				t.Fatalf("seed %d step %d: %+v lives in epoch %d", seed, step, p, l.epoch)
			}
			if n > 0 && n == l.epoch && l.overtaken(p, "m9") {
				t.Fatalf("seed %d step %d: %+v is of the highest epoch and overtaken", seed, step, p)
			}
		}
	}
}

func checkEligible(t *testing.T, l *leadership, random *rand.Rand, epoch func(Instance) int64) {
	t.Helper()
	var catalog, guesses []Instance
	for n := range 4 {
		catalog = append(catalog, Instance{Address: fmt.Sprint("m", n), Node: "catalog"})
	}
	catalog = catalog[:random.IntN(5)]
	for n := range 30 {
		guesses = append(guesses, Instance{Address: fmt.Sprint("m", n)})
	}
	seen := map[string]bool{}
	out := l.eligible(catalog, guesses, epoch)
	if len(out) > maxCandidates {
		t.Fatalf("%d candidates", len(out))
	}
	for _, i := range out {
		if seen[i.Address] {
			t.Fatalf("%s twice", i.Address)
		}
		if seen[i.Address] = true; i.Node == "catalog" && i.Address != l.holder && l.stale(epoch(i)) {
			t.Fatalf("%s of epoch %d is tried in epoch %d", i.Address, epoch(i), l.epoch)
		}
	}
	// A place whose epoch is over may lead again before the catalog knows.
	for _, i := range catalog {
		if !seen[i.Address] {
			t.Fatalf("%s is not even tried as a guess", i.Address)
		}
	}
}

func TestALeaderWhoseEpochIsLearnedLaterStays(t *testing.T) {
	var l leadership
	l.elect(Instance{Address: "a"}, 0, nil)
	leader := l.leader
	if l.learn("a", 7); l.leader != leader || leader.epoch != 7 {
		t.Errorf("leader: %+v", l.leader)
	}
	if l.unproven("b", 7) || l.unproven("b", 6) {
		t.Error("a leader whose epoch is known gives way to another one in the same")
	}
	l.learn("b", 8)
	select {
	case <-leader.gone:
	default:
		t.Error("nobody was told that it is gone")
	}
	if l.leader != nil {
		t.Errorf("leader: %+v", l.leader)
	}
}

// TestAnOpenDoorGivesWayToWhoLeadsInTheHighestEpoch: the race for a connection may
// be won by an instance of which nothing is known but that it accepts.
func TestAnOpenDoorGivesWayToWhoLeadsInTheHighestEpoch(t *testing.T) {
	var l leadership
	l.learn("b", 8)
	l.elect(Instance{Address: "a"}, 0, nil)
	for address, epoch := range map[string]int64{"b": 7, "a": 8, "c": 0, "d": 9} {
		if l.unproven(address, epoch) {
			t.Errorf("it gives way to %s in %d", address, epoch)
		}
	}
	if !l.unproven("b", 8) {
		t.Error("it stays although b says that it leads in 8")
	}
}
