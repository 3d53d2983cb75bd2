package election_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sluice/mongo-agent/election"
	"sluice/mongo-agent/role"
)

func at(ms int) time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(ms) * time.Millisecond)
}

func name(i int) string    { return fmt.Sprintf("mongo-%d", i+1) }
func address(i int) string { return fmt.Sprintf("127.0.10.%d:27017", i+1) }

// healthy is what everybody sees of a set of n: the first is primary in term 3 and
// the others replicate from it.
func healthy(n int) []election.Member {
	members := make([]election.Member, n)
	for i := range members {
		members[i] = election.Member{
			Node: name(i), Address: address(i), Reached: true, Role: role.Secondary, Term: 3,
			OpTime: role.OpTime{Term: 3, Timestamp: 100}, Source: address(0),
		}
	}
	members[0].Role, members[0].Source = role.Primary, ""
	return members
}

// world is a set of agents, each with a helper of its own.
type world struct {
	members []election.Member
	helpers []*election.Helper
}

func newWorld(n int) *world {
	w := &world{members: healthy(n)}
	for range n {
		w.helpers = append(w.helpers, election.NewHelper(election.DefaultLimits()))
	}
	w.look(at(0))
	return w
}

// look shows the picture to every agent that lives and returns who is to stand.
func (w *world) look(now time.Time) []string {
	var stand []string
	for i, h := range w.helpers {
		advice, failed := h.Look(now, election.Picture{Me: name(i), Members: slices.Clone(w.members)})
		if failed && advice.Stand {
			stand = append(stand, name(i))
		}
	}
	return stand
}

// answered makes all logs those that were asked for after the failure.
func (w *world) answered() {
	for i := range w.members {
		w.members[i].Round = election.Failure{Subject: name(0), Term: 3}.Round()
	}
}

func TestWhoStandsWhenThePrimaryIsLost(t *testing.T) {
	dead := func(w *world) { w.members[0].Role = role.Dead }
	cases := map[string]struct {
		change func(*world)
		want   string // "" is nobody
	}{
		"nothing happened":         {func(*world) {}, ""},
		"mongod has ended":         {func(w *world) { dead(w); w.answered() }, "mongo-2"},
		"mongod is frozen":         {func(w *world) { w.members[0].Role, w.members[0].Frozen = role.Unknown, true; w.answered() }, "mongo-2"},
		"its agent starts anew":    {func(w *world) { w.members[0].Role = role.Unknown; w.answered() }, ""},
		"logs are not known yet":   {dead, ""},
		"the longer log stands":    {func(w *world) { dead(w); w.answered(); w.members[2].OpTime.Timestamp++ }, "mongo-3"},
		"a later term is longer":   {func(w *world) { dead(w); w.answered(); w.members[2].OpTime = role.OpTime{Term: 4, Timestamp: 1} }, "mongo-3"},
		"the head of the chain":    {func(w *world) { dead(w); w.members[1].Source = address(2) }, "mongo-3"},
		"a frozen one cannot":      {func(w *world) { dead(w); w.members[1].Frozen = true }, "mongo-3"},
		"one that recovers, too":   {func(w *world) { dead(w); w.members[1].Role = role.Other }, "mongo-3"},
		"nobody is left":           {func(w *world) { dead(w); w.members[1].Role, w.members[2].Role = role.Dead, role.Dead }, ""},
		"one agent lost it":        {func(w *world) { w.members[0].Reached = false; w.members[2].Reached = false }, ""},
		"two agents lost it":       {func(w *world) { lose(w, 0); w.answered() }, "mongo-2"},
		"it names its successor":   {func(w *world) { w.members[0].Successor = "mongo-3" }, "mongo-3"},
		"the successor lags":       {func(w *world) { w.members[0].Successor = "mongo-3"; w.members[0].OpTime.Timestamp++ }, ""},
		"it has just stepped down": {func(w *world) { w.members[0].Role = role.Secondary; w.answered() }, ""},
	}
	for what, c := range cases {
		t.Run(what, func(t *testing.T) {
			w := newWorld(3)
			c.change(w)
			got := w.look(at(1))
			if c.want == "" && len(got) > 0 || c.want != "" && !slices.Equal(got, []string{c.want}) {
				t.Errorf("stand: %v, want %q", got, c.want)
			}
		})
	}
}

// lose makes every agent lose that of one member.
func lose(w *world, i int) {
	w.members[i].Reached = false
	for j := range w.members {
		if j != i {
			w.members[j].Lost = []string{name(i)}
		}
	}
}

func TestAPrimaryThatSteppedDownMayChooseItsSuccessorFirst(t *testing.T) {
	for _, state := range []role.State{role.Secondary, role.Other} {
		w := newWorld(3)
		w.members[0].Role = state
		w.answered()
		for _, ms := range []int{1, 149} {
			if got := w.look(at(ms)); len(got) != 0 {
				t.Errorf("%v, after %d ms: %v", state, ms, got)
			}
		}
		if got := w.look(at(400)); len(got) != 1 {
			t.Errorf("%v, after 400 ms: %v, want one", state, got)
		}
	}
}

func TestLogsThatNobodyTellsAreNotWaitedForForEver(t *testing.T) {
	w := newWorld(3)
	w.members[0].Role = role.Dead
	w.look(at(1))
	if got := w.look(at(100)); !slices.Equal(got, []string{"mongo-2"}) {
		t.Errorf("stand: %v", got)
	}
}

func TestNobodyStandsBesideOneWhoMayHaveWon(t *testing.T) {
	w := newWorld(3)
	w.members[0].Role = role.Dead
	w.answered()
	// Elected, and catching up: no secondary any more, and not yet writable.
	w.members[1].Role, w.members[1].Standing = role.Other, election.Failure{Subject: name(0), Term: 3}.Round()
	if got := w.look(at(1)); len(got) != 0 {
		t.Errorf("stand beside mongo-2: %v", got)
	}
	if got := w.look(at(1500)); !slices.Equal(got, []string{"mongo-3"}) {
		t.Errorf("after mongo-2 has not come: %v", got)
	}
}

func TestTriesAreLimited(t *testing.T) {
	w := newWorld(3)
	w.members[0].Role = role.Dead
	w.answered()
	limits := election.DefaultLimits()
	tries := 0
	for ms := 1; ms < int(limits.Window.Milliseconds()); ms += 5 {
		for range w.look(at(ms)) {
			tries++
			w.helpers[1].Tried(at(ms))
		}
	}
	if tries != limits.Most {
		t.Errorf("%d tries in %v, want %d", tries, limits.Window, limits.Most)
	}
}

// TestNeverTwoNeverAStaleOneNeverWithoutAFailure throws dice: whatever the
// pictures are, as long as the agents see the same one.
func TestNeverTwoNeverAStaleOneNeverWithoutAFailure(t *testing.T) {
	for seed := range uint64(3000) {
		dice := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(3 + 2*dice.IntN(2))
		for step := 1; step < 12; step++ {
			i := dice.IntN(len(w.members))
			shake(dice, w, i)
			now := at(step * dice.IntN(200))
			check(t, seed, w, w.look(now))
		}
	}
}

func shake(dice *rand.Rand, w *world, i int) {
	m := &w.members[i]
	switch dice.IntN(9) {
	case 0:
		m.Role = []role.State{role.Secondary, role.Dead, role.Other, role.Unknown}[dice.IntN(4)]
	case 1:
		m.Frozen = !m.Frozen
	case 2:
		m.OpTime.Timestamp += uint64(dice.IntN(3))
	case 3:
		lose(w, i)
	case 4:
		m.Reached = true
		for j := range w.members {
			w.members[j].Lost = slices.DeleteFunc(w.members[j].Lost, func(n string) bool { return n == m.Node })
		}
	case 5:
		w.answered()
	case 6:
		m.Successor = []string{"", name(dice.IntN(len(w.members)))}[dice.IntN(2)]
	case 7:
		// Whoever replicates from another is not ahead of it.
		source := dice.IntN(len(w.members))
		if source != i {
			m.Source = address(source)
		}
	case 8:
		m.Term++
		m.Role = role.Primary
	}
}

// check holds a choice to what must always be true of it.
func check(t *testing.T, seed uint64, w *world, stand []string) {
	t.Helper()
	reached := stand[:0:0]
	for _, node := range stand {
		if m := w.members[slices.IndexFunc(w.members, func(m election.Member) bool { return m.Node == node })]; m.Reached {
			reached = append(reached, node)
		}
	}
	if len(reached) > 1 {
		t.Fatalf("seed %d: %v stand at once: %+v", seed, reached, w.members)
	}
	for _, node := range reached {
		i := slices.IndexFunc(w.members, func(m election.Member) bool { return m.Node == node })
		me := w.members[i]
		if me.Role != role.Secondary || me.Frozen {
			t.Fatalf("seed %d: %s stands and is %v, frozen %v", seed, node, me.Role, me.Frozen)
		}
		planned := slices.ContainsFunc(w.members, func(m election.Member) bool { return m.Successor == node })
		for j, other := range w.members {
			follows := other.Source == me.Address
			if j != i && !planned && other.Reached && other.Role == role.Secondary && !other.Frozen && !follows &&
				other.OpTime.Compare(me.OpTime) > 0 {
				t.Fatalf("seed %d: %s stands, and %s has a longer log: %+v", seed, node, other.Node, w.members)
			}
		}
	}
}
