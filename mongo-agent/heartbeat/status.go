// Package heartbeat lets the agents of one replica set know each other: who
// answers, what each knows about its own mongod, and until when a majority has
// confirmed this one.
//
// Each agent dials every other one and asks again and again; the answer carries
// the other's status. A status also travels at once when it changes. Only answers
// to own questions count as life, because what matters is whether both
// directions work.
package heartbeat

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/mongo-agent/role"
)

// MaxMessage is the largest message in bytes, its line break included.
const MaxMessage = 4096

// Status is what an agent says about its own node.
type Status struct {
	// Process is another one after each start of the agent, and Number grows with
	// each status of one process; the Circle sets both.
	Process string `json:"process"`
	Number  uint64 `json:"number"`
	// Node is the agent's node, and Member its mongod's name in the set.
	Node   string `json:"node"`
	Member string `json:"member"`
	// Role is that of its mongod; Frozen says that the process does not run, or
	// does not answer, though it exists.
	Role   role.State `json:"role"`
	Frozen bool       `json:"frozen,omitempty"`
	// Term is the highest election term that its mongod has spoken of.
	Term int64 `json:"term"`
	// Highest is the highest term that it knows of, from its mongod or from other
	// agents: also one that its mongod has merely voted in.
	Highest int64       `json:"highest,omitempty"`
	OpTime  role.OpTime `json:"optime"`
	// Majority is how far its mongod knows that a majority of the set has come.
	Majority MajorityPoint `json:"majority,omitzero"`
	// Primary is the member that its mongod takes for the primary.
	Primary string `json:"primary,omitempty"`
	// Source is the member that its mongod replicates from.
	Source string `json:"source,omitempty"`
	// Lost are the nodes whose agents it does not hear.
	Lost []string `json:"lost,omitempty"`
	// Round is the number of the failure for which OpTime was asked for; see
	// package election.
	Round string `json:"round,omitempty"`
	// Standing is the failure because of which its mongod stands for election, or
	// has won one.
	Standing string `json:"standing,omitempty"`
	// Won says that it has won that election; it may not take writes yet.
	Won bool `json:"won,omitempty"`
	// Successor is the node that it wants to hand the primary's role to.
	Successor string `json:"successor,omitempty"`
	// Heir is the node that the primary is going to name its successor: the other
	// members replicate from it from now on.
	Heir string `json:"heir,omitempty"`
}

// MajorityPoint is the newest operation that a member knows a majority to have; what
// was written after it may yet be undone. The zero value is that none is known.
type MajorityPoint struct {
	OpTime role.OpTime `json:"optime"`
	// At is when the operation was written, by the clock of the primary that wrote it.
	At time.Time `json:"at"`
}

// equal reports whether both say the same, apart from the operations that arrive
// all the time.
func (s Status) equal(other Status) bool {
	lost, otherLost := s.Lost, other.Lost
	s.Lost, other.Lost = nil, nil
	if s.Round == other.Round && s.Successor == other.Successor {
		s.OpTime, other.OpTime = role.OpTime{}, role.OpTime{}
	}
	return s.comparable() == other.comparable() && slices.Equal(lost, otherLost)
}

// older reports whether s was said before other by the same process.
func (s Status) older(other Status) bool {
	return s.Process == other.Process && s.Number < other.Number
}

// comparable is a Status without its slice.
type comparable struct {
	node, member, primary, source, round, standing, successor, heir string
	role                                                            role.State
	frozen, won                                                     bool
	term, highest                                                   int64
	optime                                                          role.OpTime
}

func (s Status) comparable() comparable {
	return comparable{
		node: s.Node, member: s.Member, primary: s.Primary, source: s.Source, round: s.Round, standing: s.Standing, successor: s.Successor, heir: s.Heir,
		role: s.Role, frozen: s.Frozen, won: s.Won, term: s.Term, highest: s.Highest, optime: s.OpTime,
	}
}

// message is one line on the wire. A question has a number above 0, the answer to
// it the same number with the sign turned.
type message struct {
	Number int64  `json:"n"`
	Status Status `json:"status"`
}

func (m message) encode() ([]byte, error) {
	line, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode heartbeat: %w", err)
	}
	if len(line)+1 > MaxMessage {
		return nil, fmt.Errorf("encode heartbeat: %d bytes, want at most %d", len(line)+1, MaxMessage)
	}
	return append(line, '\n'), nil
}

// decode reads one line. What a newer agent says in addition is ignored.
func decode(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return message{}, fmt.Errorf("decode heartbeat: %w", err)
	}
	switch {
	case m.Number == 0:
		return message{}, errors.New("decode heartbeat: it has no number")
	case m.Status.Node == "":
		return message{}, errors.New("decode heartbeat: it names no node")
	case m.Status.Term < 0 || m.Status.Highest < 0 || m.Status.OpTime.Term < 0:
		return message{}, errors.New("decode heartbeat: it has a negative term")
	}
	return m, nil
}
