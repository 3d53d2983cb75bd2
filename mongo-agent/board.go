package main

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"sluice/mongo-agent/role"
	"sluice/mongo-agent/vitals"
)

// keptTransitions is how many transitions the board remembers.
const keptTransitions = 32

// millis is a duration that JSON shows as milliseconds with their fraction.
type millis time.Duration

// MarshalJSON writes milliseconds.
func (m millis) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(time.Duration(m).Microseconds()) / 1000)
}

// transition is one change of role, with when its steps were complete, counted
// from the moment in which it was detected. A step that was not needed is
// absent.
type transition struct {
	From     role.State `json:"from"`
	To       role.State `json:"to"`
	Term     int64      `json:"term"`
	Reason   string     `json:"reason,omitempty"`
	Detected time.Time  `json:"detected"`
	Cut      *millis    `json:"cut_ms,omitempty"`
	// Closed is how many connections were reset by the cut.
	Closed   int     `json:"cut_connections,omitempty"`
	Accepted *millis `json:"accepted_ms,omitempty"`
	// Registered is when Consul's agent held the new registration.
	Registered *millis `json:"registered_ms,omitempty"`
}

// roleReport is what /role shows.
type roleReport struct {
	role.Snapshot
	Node        string       `json:"node"`
	Transitions []transition `json:"transitions"`
}

// board holds what is known about the role, for readers. It has one writer.
type board struct {
	node string

	mu          sync.Mutex
	snapshot    role.Snapshot
	changed     chan struct{}
	transitions []transition
	count       map[role.State]uint64
	process     vitals.Event
}

func newBoard(node string, snapshot role.Snapshot) *board {
	return &board{node: node, snapshot: snapshot, changed: make(chan struct{}), count: map[role.State]uint64{}}
}

// Snapshot returns what is known now, and a channel that is closed when the
// state or the term becomes another.
func (b *board) Snapshot() (role.Snapshot, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.snapshot, b.changed
}

// set publishes a snapshot.
func (b *board) set(s role.Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	news := s.State != b.snapshot.State || s.Term != b.snapshot.Term
	b.snapshot = s
	if news {
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

// setProcess publishes the state of mongod's process.
func (b *board) setProcess(e vitals.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.process = e
}

// record adds a transition and returns how to amend it later.
func (b *board) record(t transition) (amend func(func(*transition))) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count[t.To]++
	b.transitions = append(b.transitions, t)
	if extra := len(b.transitions) - keptTransitions; extra > 0 {
		b.transitions = slices.Delete(b.transitions, 0, extra)
	}
	same := func(other transition) bool { return other.Detected.Equal(t.Detected) && other.To == t.To }
	return func(change func(*transition)) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if i := slices.IndexFunc(b.transitions, same); i >= 0 {
			change(&b.transitions[i])
		}
	}
}

func (b *board) transitionsTo(s role.State) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return float64(b.count[s])
}

func (b *board) processEvent() vitals.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.process
}

func (b *board) report() roleReport {
	b.mu.Lock()
	defer b.mu.Unlock()
	transitions := slices.Clone(b.transitions)
	if transitions == nil {
		transitions = []transition{}
	}
	return roleReport{Snapshot: b.snapshot, Node: b.node, Transitions: transitions}
}
