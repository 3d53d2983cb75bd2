package main

import (
	"sync/atomic"
	"time"

	"sluice/mongo-agent/heartbeat"
)

// lease is the time until which a majority of the agents has confirmed this one.
type lease struct {
	circle *heartbeat.Circle
	length time.Duration
	// until is what was true when somebody looked; it only grows.
	until atomic.Pointer[time.Time]
}

// valid reports whether the lease holds now. It is asked for each piece of
// traffic.
func (l *lease) valid() bool {
	if until := l.until.Load(); until != nil && time.Now().Before(*until) {
		return true
	}
	return l.left() > 0
}

// left is how long the lease still holds.
func (l *lease) left() time.Duration {
	view, _ := l.circle.View()
	now := time.Now()
	until := view.Lease(l.length, now)
	l.until.Store(&until)
	return until.Sub(now)
}
