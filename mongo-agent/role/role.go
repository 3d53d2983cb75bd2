// Package role decides which role a MongoDB replica set member has and what must
// be done, in which order, when that changes.
//
// It is pure: hello replies, failures and the clock go in, actions come out. The
// Machine starts closed and stays closed on doubt: a role is served only while
// the newest evidence says that the member has it, and every failure takes it
// away until a reply arrives that was asked for after the failure.
//
// A fence overrules what a primary says about itself: others know better.
//
// The invariants, which a fuzz test holds it to: at most one role is served;
// what is served is cut before another is accepted; what is registered was
// accepted before.
package role

import (
	"cmp"
	"fmt"
	"time"
)

// State is what is known about a member's role.
type State uint8

// The states. Only Primary and Secondary are served.
const (
	// Unknown: it has not answered yet, or no longer answers in time (frozen,
	// overloaded).
	Unknown State = iota
	// Primary: it accepts writes. During catch-up after an election it does not
	// yet, and is Other.
	Primary
	// Secondary: it replicates and can be read.
	Secondary
	// Other: it answers and is neither, for example because the set is not
	// initiated or the member recovers.
	Other
	// Dead: it has ended or refused the connection.
	Dead
)

// String returns the state in lower case.
func (s State) String() string {
	switch s {
	case Primary:
		return "primary"
	case Secondary:
		return "secondary"
	case Other:
		return "other"
	case Dead:
		return "dead"
	default:
		return "unknown"
	}
}

// MarshalText writes what String returns.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what String returns.
func (s *State) UnmarshalText(text []byte) error {
	for known := Unknown; known <= Dead; known++ {
		if known.String() == string(text) {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("unknown role %q", text)
}

// Served reports whether a member in this state is offered to anyone.
func (s State) Served() bool { return s == Primary || s == Secondary }

// Reply is what a member said about itself in one answer to hello.
type Reply struct {
	// Asked is when the request was sent. An answer that was asked for before a
	// failure says nothing about the time after it.
	Asked time.Time
	// Writable and Secondary are hello's isWritablePrimary and secondary.
	Writable, Secondary bool
	// Set, Me and Primary are hello's setName, me and primary; Me is the name by
	// which the set's configuration knows the member. Info is hello's info, the
	// reason why there is no role.
	Set, Me, Primary, Info string
	// Hosts is hello's hosts: the members that can be elected.
	Hosts []string
	// Term is the election term: from electionId for a primary, else that of the
	// last operation that the member has applied.
	Term int64
	// OpTime is the last operation that the member has applied.
	OpTime OpTime
	// Process and Counter are hello's topologyVersion: Process is another one
	// after a restart, Counter grows with each change.
	Process string
	Counter int64
}

// OpTime is a position in the set's log of operations (MongoDB: OpTime).
type OpTime struct {
	// Term is the election term in which the operation was written.
	Term int64 `json:"t"`
	// Timestamp is the operation's timestamp: seconds in the upper 32 bits, a
	// counter within the second in the lower.
	Timestamp uint64 `json:"ts"`
}

// OpTimeOf is the position of the counter-th operation of a second since 1970, in a term.
func OpTimeOf(term int64, second, counter uint32) OpTime {
	return OpTime{Term: term, Timestamp: uint64(second)<<32 | uint64(counter)}
}

// Compare returns -1, 0 or 1 as t is before, at or after other: first by term,
// then by timestamp, as in an election.
func (t OpTime) Compare(other OpTime) int {
	return cmp.Or(cmp.Compare(t.Term, other.Term), cmp.Compare(t.Timestamp, other.Timestamp))
}

// Loss is the way in which a member failed to answer.
type Loss uint8

// The ways to fail.
const (
	// Silent: no answer within the deadline.
	Silent Loss = iota
	// Ended: the connection ended or was refused, or the member says that it
	// shuts down.
	Ended
	// Distrusted: it answers, but nobody may be let through to it.
	Distrusted
	// Frozen: the process exists and does not run.
	Frozen
)

// Do is one kind of action.
type Do uint8

// The kinds of action.
const (
	// Cut stops accepting for the role, resets its connections and takes back
	// its registration.
	Cut Do = iota
	// Accept starts to accept for the role.
	Accept
	// Register publishes the role, or publishes it again with another term.
	Register
)

// String returns the action in lower case.
func (d Do) String() string { return [...]string{"cut", "accept", "register"}[d] }

// Action is one thing to do. Actions are to be done in the order in which they
// were returned, each after the one before is complete.
type Action struct {
	Do   Do
	Role State
	// Term is the term to publish; 0 for Cut.
	Term int64
}

// Snapshot is what the Machine knows at one moment.
type Snapshot struct {
	State State `json:"role"`
	// Term is the newest election term that the member has spoken of.
	Term int64 `json:"term"`
	// Me and Primary are the member's own name in the set and the primary's.
	Me      string `json:"me,omitempty"`
	Primary string `json:"primary,omitempty"`
	Set     string `json:"set,omitempty"`
	// Since is when the member came into this state.
	Since time.Time `json:"since"`
	// Reason says why there is no role; empty while there is one.
	Reason string `json:"reason,omitempty"`
	// Fence says why a primary is not served; empty is no fence.
	Fence string `json:"fence,omitempty"`
	// OpTime is the last operation that the member has applied, as of Asked.
	OpTime OpTime    `json:"optime"`
	Asked  time.Time `json:"-"`
}

// Config says whose roles count.
type Config struct {
	// Set is the name of the replica set: a member of another set has no role.
	Set string
	// Me is the name that the member must have in the set's configuration; empty
	// accepts any.
	Me string
}

// Machine follows one member. It is for one goroutine.
type Machine struct {
	cfg     Config
	now     Snapshot
	process string
	counter int64
	retired string    // the process before this one: what it still says is late
	failed  time.Time // the newest failure
	// unfenced is when the fence was last taken away.
	unfenced time.Time
	served   State // Unknown: nothing
}

// New returns a machine that knows nothing yet, as of now.
func New(cfg Config, now time.Time) *Machine {
	return &Machine{cfg: cfg, now: Snapshot{State: Unknown, Since: now, Reason: "it has not answered yet"}}
}

// Snapshot returns what is known.
func (m *Machine) Snapshot() Snapshot { return m.now }

// Failed takes note that the member failed to answer, at now: nothing is served
// until it answers again.
func (m *Machine) Failed(now time.Time, loss Loss, reason string) []Action {
	m.failed = now
	m.enter(now, map[Loss]State{Silent: Unknown, Frozen: Unknown, Ended: Dead, Distrusted: Other}[loss])
	m.now.Primary, m.now.Reason = "", reason
	return m.cut(nil)
}

// Heard takes an answer that arrived at now and returns what has to be done.
// Answers that are older than what is known are ignored.
func (m *Machine) Heard(now time.Time, r Reply) []Action {
	if m.outdated(r) {
		return nil
	}
	restarted := m.process != "" && r.Process != m.process
	if restarted {
		m.retired = m.process
	}
	m.process, m.counter = r.Process, r.Counter

	before := m.now
	state, reason := m.judge(r)
	m.enter(now, state)
	m.now.Term, m.now.Me, m.now.Primary, m.now.Set, m.now.Reason = r.Term, r.Me, r.Primary, r.Set, reason
	m.now.OpTime, m.now.Asked = r.OpTime, r.Asked
	// What was asked for before the fence was gone opens nothing, but its term is
	// news: the fence may have gone because of it.
	if state == Primary && (m.now.Fence != "" || !m.unfenced.IsZero() && !r.Asked.After(m.unfenced)) {
		return m.cut(nil)
	}

	// A primary of a later term was not primary in between, even if nobody
	// noticed: connections of the earlier term must not live on.
	reelected := state == Primary && before.State == Primary && r.Term != before.Term
	if state != m.served || restarted || reelected {
		if restarted || reelected {
			m.now.Since = now
		}
		return m.serve(m.cut(nil), state)
	}
	if state.Served() && r.Term != before.Term {
		return []Action{{Do: Register, Role: state, Term: r.Term}}
	}
	return nil
}

// Fence keeps a primary from being served for as long as reason is not empty,
// whatever the member says about itself. Once the fence is taken away, the member
// is served again on the first answer that was asked for after that.
func (m *Machine) Fence(now time.Time, reason string) []Action {
	if reason == m.now.Fence {
		return nil
	}
	m.now.Fence = reason
	if reason == "" {
		m.unfenced = now
		return nil
	}
	if m.served != Primary {
		return nil
	}
	return m.cut(nil)
}

func (m *Machine) outdated(r Reply) bool {
	if !m.failed.IsZero() && !r.Asked.After(m.failed) {
		return true
	}
	if r.Process == m.process {
		return r.Counter < m.counter
	}
	return r.Process == m.retired && m.retired != ""
}

// judge names the state that a reply stands for, and why there is no role.
func (m *Machine) judge(r Reply) (State, string) {
	switch {
	case r.Set == "" && r.Info != "":
		return Other, r.Info
	case r.Set == "":
		return Other, "it runs without a replica set"
	case r.Set != m.cfg.Set:
		return Other, fmt.Sprintf("it is a member of the replica set %q, not of %q", r.Set, m.cfg.Set)
	case m.cfg.Me != "" && r.Me != m.cfg.Me:
		return Other, fmt.Sprintf("the set knows it as %q, not as %q", r.Me, m.cfg.Me)
	case r.Writable && r.Secondary:
		return Other, "it says that it is primary and secondary"
	case r.Writable:
		return Primary, ""
	case r.Secondary:
		return Secondary, ""
	default:
		return Other, "it is neither primary nor secondary"
	}
}

func (m *Machine) enter(now time.Time, state State) {
	if state != m.now.State {
		m.now.State, m.now.Since = state, now
	}
}

func (m *Machine) cut(actions []Action) []Action {
	if m.served == Unknown {
		return actions
	}
	role := m.served
	m.served = Unknown
	return append(actions, Action{Do: Cut, Role: role})
}

func (m *Machine) serve(actions []Action, state State) []Action {
	if !state.Served() {
		return actions
	}
	m.served = state
	return append(actions,
		Action{Do: Accept, Role: state, Term: m.now.Term},
		Action{Do: Register, Role: state, Term: m.now.Term})
}
