package role_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/mongo-agent/role"
)

const (
	set = "consuldemo"
	me  = "127.0.10.1:27017"
)

func at(ms int) time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(ms) * time.Millisecond)
}

func reply(change func(*role.Reply)) role.Reply {
	r := role.Reply{Set: set, Me: me, Process: "p1", Counter: 1, Term: 1}
	if change != nil {
		change(&r)
	}
	return r
}

func primary(counter, term int64) role.Reply {
	return reply(func(r *role.Reply) { r.Writable, r.Counter, r.Term = true, counter, term })
}

func secondary(counter, term int64) role.Reply {
	return reply(func(r *role.Reply) { r.Secondary, r.Counter, r.Term = true, counter, term })
}

func neither(counter int64) role.Reply {
	return reply(func(r *role.Reply) { r.Counter = counter })
}

type step struct {
	reply   *role.Reply
	loss    role.Loss
	actions string
	state   role.State
}

func heard(r role.Reply, actions string, state role.State) step {
	return step{reply: &r, actions: actions, state: state}
}

func lost(l role.Loss, actions string, state role.State) step {
	return step{loss: l, actions: actions, state: state}
}

func text(actions []role.Action) string {
	var words []string
	for _, a := range actions {
		word := fmt.Sprintf("%v %v", a.Do, a.Role)
		if a.Do != role.Cut {
			word += fmt.Sprintf(" %d", a.Term)
		}
		words = append(words, word)
	}
	return fmt.Sprint(words)
}

const nothing = "[]"

func TestRoleChangesGiveTheirActionsInOrder(t *testing.T) {
	tests := map[string][]step{
		"first answer opens its role": {
			heard(primary(1, 1), "[accept primary 1 register primary 1]", role.Primary),
		},
		"the same answer again is no news": {
			heard(secondary(1, 1), "[accept secondary 1 register secondary 1]", role.Secondary),
			heard(secondary(1, 1), nothing, role.Secondary),
		},
		"promotion cuts, accepts, registers": {
			heard(secondary(1, 1), "[accept secondary 1 register secondary 1]", role.Secondary),
			heard(primary(2, 2), "[cut secondary accept primary 2 register primary 2]", role.Primary),
		},
		"step-down passes through a state that serves nothing": {
			heard(primary(1, 3), "[accept primary 3 register primary 3]", role.Primary),
			heard(neither(2), "[cut primary]", role.Other),
			heard(secondary(3, 3), "[accept secondary 3 register secondary 3]", role.Secondary),
		},
		"an older answer that comes late is ignored": {
			heard(secondary(5, 2), "[accept secondary 2 register secondary 2]", role.Secondary),
			heard(primary(4, 1), nothing, role.Secondary),
		},
		"a later term of the same role is published for a secondary": {
			heard(secondary(1, 1), "[accept secondary 1 register secondary 1]", role.Secondary),
			heard(secondary(1, 2), "[register secondary 2]", role.Secondary),
		},
		"a later term as primary is another primary: its connections are cut": {
			heard(primary(1, 1), "[accept primary 1 register primary 1]", role.Primary),
			heard(primary(5, 3), "[cut primary accept primary 3 register primary 3]", role.Primary),
		},
		"a restart between two answers cuts, even into the same role": {
			heard(secondary(9, 1), "[accept secondary 1 register secondary 1]", role.Secondary),
			heard(reply(func(r *role.Reply) { r.Process, r.Secondary = "p2", true }), "[cut secondary accept secondary 1 register secondary 1]", role.Secondary),
			heard(secondary(10, 1), nothing, role.Secondary),
		},
		"the end of the process cuts at once": {
			heard(primary(1, 1), "[accept primary 1 register primary 1]", role.Primary),
			lost(role.Ended, "[cut primary]", role.Dead),
			lost(role.Ended, nothing, role.Dead),
		},
		"silence cuts, and the process that answers again is served again": {
			heard(primary(1, 1), "[accept primary 1 register primary 1]", role.Primary),
			lost(role.Silent, "[cut primary]", role.Unknown),
			heard(primary(1, 1), "[accept primary 1 register primary 1]", role.Primary),
		},
		"distrust cuts": {
			heard(primary(1, 1), "[accept primary 1 register primary 1]", role.Primary),
			lost(role.Distrusted, "[cut primary]", role.Other),
		},
		"another set's member has no role": {
			heard(reply(func(r *role.Reply) { r.Set, r.Writable = "other", true }), nothing, role.Other),
		},
		"a member by another name has no role": {
			heard(reply(func(r *role.Reply) { r.Me, r.Writable = "127.0.10.2:27017", true }), nothing, role.Other),
		},
		"no set, no role": {
			heard(reply(func(r *role.Reply) { r.Set, r.Writable = "", true }), nothing, role.Other),
		},
		"both roles at once are none": {
			heard(reply(func(r *role.Reply) { r.Writable, r.Secondary = true, true }), nothing, role.Other),
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			m := role.New(role.Config{Set: set, Me: me}, at(0))
			for i, s := range steps {
				now := at(10 * (i + 1))
				var actions []role.Action
				if s.reply != nil {
					s.reply.Asked = now.Add(-time.Millisecond)
					actions = m.Heard(now, *s.reply)
				} else {
					actions = m.Failed(now, s.loss, "test")
				}
				if got := text(actions); got != s.actions {
					t.Errorf("step %d: actions %s, want %s", i, got, s.actions)
				}
				if got := m.Snapshot().State; got != s.state {
					t.Errorf("step %d: state %v, want %v", i, got, s.state)
				}
			}
		})
	}
}

func TestAnswerAskedForBeforeAFailureGivesNoRoleBack(t *testing.T) {
	m := role.New(role.Config{Set: set}, at(0))
	early := primary(2, 1)
	early.Asked = at(5)
	m.Failed(at(10), role.Silent, "no answer within 700 ms")
	if actions := m.Heard(at(11), early); len(actions) > 0 || m.Snapshot().State != role.Unknown {
		t.Errorf("actions %s in state %v, want none: the answer says nothing about the time after the failure", text(actions), m.Snapshot().State)
	}
	late := primary(2, 1)
	late.Asked = at(12)
	if actions := m.Heard(at(13), late); len(actions) != 2 {
		t.Errorf("actions %s, want accept and register", text(actions))
	}
}

func TestSinceIsTheTimeOfTheChange(t *testing.T) {
	m := role.New(role.Config{Set: set}, at(0))
	for i, r := range []role.Reply{secondary(1, 1), secondary(1, 2), secondary(1, 2)} {
		m.Heard(at(10*(i+1)), r)
	}
	if got := m.Snapshot().Since; !got.Equal(at(10)) {
		t.Errorf("since %v, want the time of the first answer", got)
	}
}

// world does the actions and complains when their order breaks an invariant.
type world struct {
	accepted   role.State
	registered role.State
}

func (w *world) do(a role.Action) error {
	switch a.Do {
	case role.Cut:
		if w.accepted != a.Role {
			return fmt.Errorf("cut %v while %v is served", a.Role, w.accepted)
		}
		*w = world{}
	case role.Accept:
		if w.accepted != role.Unknown {
			return fmt.Errorf("accept %v while %v is served", a.Role, w.accepted)
		}
		if !a.Role.Served() {
			return fmt.Errorf("accept %v", a.Role)
		}
		w.accepted = a.Role
	case role.Register:
		if w.accepted != a.Role {
			return fmt.Errorf("register %v while %v is served", a.Role, w.accepted)
		}
		w.registered = a.Role
	}
	return nil
}

// FuzzNeverTwoRolesAndAlwaysCutAcceptRegister plays any history of answers and
// failures, two bytes per event.
func FuzzNeverTwoRolesAndAlwaysCutAcceptRegister(f *testing.F) {
	f.Add([]byte{0, 1, 1, 1, 2, 2, 250, 0, 1, 3})
	f.Add([]byte{1, 9, 0, 9, 64, 9, 251, 1, 129, 9})
	f.Fuzz(func(t *testing.T, history []byte) {
		m := role.New(role.Config{Set: set, Me: me}, at(0))
		var w world
		for i := 0; i+1 < len(history); i += 2 {
			kind, value := history[i], history[i+1]
			now := at(i + 10)
			var actions []role.Action
			failed := kind >= 250
			if failed {
				actions = m.Failed(now, role.Loss(kind%3), "fuzz")
			} else {
				actions = m.Heard(now, fuzzReply(kind, value, now))
			}
			for _, a := range actions {
				if err := w.do(a); err != nil {
					t.Fatalf("event %d: %v (actions %s)", i/2, err, text(actions))
				}
			}
			state := m.Snapshot().State
			want := role.Unknown
			if state.Served() {
				want = state
			}
			if w.accepted != want || w.registered != want {
				t.Fatalf("event %d: state %v, accepted %v, registered %v", i/2, state, w.accepted, w.registered)
			}
			if failed && state.Served() {
				t.Fatalf("event %d: %v is served after a failure", i/2, state)
			}
		}
	})
}

func fuzzReply(kind, value byte, now time.Time) role.Reply {
	sets := []string{set, set, set, "other", ""}
	return role.Reply{
		Asked:     now.Add(-time.Duration(kind>>4) * time.Millisecond),
		Writable:  kind&1 != 0,
		Secondary: kind&2 != 0,
		Set:       sets[int(kind>>2)%len(sets)],
		Me:        me,
		Process:   string('a' + rune(kind>>6)),
		Counter:   int64(value & 15),
		Term:      int64(value >> 4),
	}
}

func TestStatesHaveDistinctNames(t *testing.T) {
	var names []string
	for s := role.Unknown; s <= role.Dead; s++ {
		names = append(names, s.String())
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != 5 {
		t.Errorf("names %v, want five", names)
	}
}

// A fence for a term that is over must not outlive that term: an answer of a
// later one is asked for before the fence goes, and takes it away.
func TestFencedPrimaryOfALaterTermIsServedOnTheNextAnswer(t *testing.T) {
	m := role.New(role.Config{Set: "consuldemo"}, at(0))
	asked := func(ms int, r role.Reply) role.Reply { r.Asked = at(ms); return r }
	m.Heard(at(1), asked(0, primary(1, 6)))
	if got := text(m.Fence(at(10), "another knows of term 8")); got != "[cut primary]" {
		t.Fatalf("fenced: %s", got)
	}
	m.Fence(at(30), "")
	if got := m.Heard(at(30), asked(20, primary(2, 8))); len(got) != 0 {
		t.Errorf("an answer asked for before the fence went: %s", text(got))
	}
	if term := m.Snapshot().Term; term != 8 {
		t.Errorf("term %d is known, want 8: the fence for term 6 would come back", term)
	}
	if got := text(m.Heard(at(41), asked(40, primary(2, 8)))); got != "[accept primary 8 register primary 8]" {
		t.Errorf("the next answer: %s", got)
	}
}
