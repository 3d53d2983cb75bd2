package main

import (
	"sync"
	"time"

	"sluice/mongo-agent/heartbeat"
	"sluice/mongo-agent/role"
)

// self is what the agent says about itself to the others. It is safe for
// concurrent use.
type self struct {
	circle *heartbeat.Circle

	mu     sync.Mutex
	status heartbeat.Status
	// answered says that mongod has answered since the agent's start, so that its
	// silence means something.
	answered bool
	// round is the failure for which the log is to be known, and since when.
	round string
	since time.Time
	// told is when mongod was asked for what it last said about the majority.
	told time.Time
}

func newSelf(circle *heartbeat.Circle, node, member string) *self {
	s := &self{circle: circle, status: heartbeat.Status{Node: node, Member: member}}
	circle.Say(s.status)
	return s
}

func (s *self) change(change func(*heartbeat.Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
	s.circle.Say(s.status)
}

// heard takes what is known about mongod.
func (s *self) heard(now role.Snapshot) {
	s.change(func(status *heartbeat.Status) {
		s.answered = s.answered || now.Set != ""
		if status.Role == role.Primary && now.State != role.Primary {
			status.Standing, status.Won = "", false // what it won is over
		}
		status.Role, status.Term, status.OpTime, status.Primary = now.State, now.Term, now.OpTime, now.Primary
		status.Frozen = s.answered && now.State == role.Unknown
		if s.round != "" && now.Asked.After(s.since) {
			status.Round = s.round
		}
	})
}

func (s *self) lost(nodes []string) {
	s.change(func(status *heartbeat.Status) { status.Lost = nodes })
}

// replicates takes what mongod said about its part in the set, when it was asked at
// asked.
func (s *self) replicates(now replicating, asked time.Time) {
	s.change(func(status *heartbeat.Status) {
		status.Source = now.Source
		status.Highest = max(status.Highest, now.Term)
		if majority := now.majority(); majority != (heartbeat.MajorityPoint{}) {
			status.Majority, s.told = majority, asked
		}
	})
}

// majority returns the newest operation that a majority is known to have, and when
// mongod was asked for it.
func (s *self) majority() (heartbeat.MajorityPoint, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status.Majority, s.told
}

func (s *self) standing(round string, won bool) {
	s.change(func(status *heartbeat.Status) { status.Standing, status.Won = round, won })
}

// highest takes a term that somebody has spoken of.
func (s *self) highest(term int64) {
	s.change(func(status *heartbeat.Status) { status.Highest = max(status.Highest, term) })
}

func (s *self) successor(node string) {
	s.change(func(status *heartbeat.Status) { status.Successor = node })
}

func (s *self) heir(node string) {
	s.change(func(status *heartbeat.Status) { status.Heir = node })
}

// begin makes a failure the one for which the log must be known. It reports
// whether it is not yet.
func (s *self) begin(round string, now time.Time) (missing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.round != round {
		s.round, s.since = round, now
	}
	return s.status.Round != round
}

func (s *self) load() heartbeat.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}
