package main

import (
	"slices"
	"sync"
	"time"
)

// keptAttempts is how many elections are remembered.
const keptAttempts = 32

// The outcomes of an attempt.
const (
	electionWon     = "won"
	electionRefused = "refused" // mongod said no, or the others did not vote for it
	electionFailed  = "failed"  // mongod did not answer
)

// attempt is one election that this agent has asked for.
type attempt struct {
	At      time.Time `json:"at"`
	Why     string    `json:"why"`
	Subject string    `json:"subject"`
	Helper  string    `json:"helper"`
	Planned bool      `json:"planned,omitempty"`
	Outcome string    `json:"outcome"`
	// Decided and Elected are counted from At, when the failure was known here.
	Decided millis  `json:"decided_ms"`
	Elected *millis `json:"elected_ms,omitempty"`
	// Aborted says that a catch-up was cut short.
	Aborted bool   `json:"aborted_catch_up,omitempty"`
	Error   string `json:"error,omitempty"`
}

// elections remembers attempts. It is safe for concurrent use.
type elections struct {
	mu    sync.Mutex
	list  []attempt
	count map[string]uint64
}

func (e *elections) add(t attempt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.count == nil {
		e.count = map[string]uint64{}
	}
	e.count[t.Outcome]++
	e.list = append(e.list, t)
	if extra := len(e.list) - keptAttempts; extra > 0 {
		e.list = slices.Delete(e.list, 0, extra)
	}
}

func (e *elections) all() []attempt {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]attempt{}, e.list...)
}

func (e *elections) outcomes(outcome string) float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return float64(e.count[outcome])
}
