package balance

import (
	"sync/atomic"
	"time"
)

// standBack is for how long an endpoint stands back after it deferred. Then a request in
// its turn finds out. A shorter time would cost clients more refusals, a longer one
// would keep an endpoint idle that takes requests again.
const standBack = 2 * time.Second

// deferral is what the last answers of an endpoint say about refusals on purpose, from
// the best to the worst.
type deferral uint8

const (
	// serving is an endpoint that succeeded since, or never deferred.
	serving deferral = iota
	// deferred is one that has not succeeded since, but some time ago. That it has
	// little in flight, or that nothing is known of its latency, does not speak for it.
	deferred
	// deferring is one that did so a moment ago.
	deferring
)

// deferrals is when an endpoint deferred last, in Unix nanoseconds, if it has not
// succeeded since; 0 is that it has.
type deferrals struct{ last atomic.Int64 }

func (d *deferrals) begin(now int64) { d.last.Store(now) }

func (d *deferrals) end() {
	if d.last.Load() != 0 {
		d.last.Store(0)
	}
}

func (d *deferrals) at(now int64) deferral {
	switch last := d.last.Load(); {
	case last == 0:
		return serving
	case now-last < int64(standBack):
		return deferring
	}
	return deferred
}

// left is how much longer an endpoint that is deferring is so.
func (d *deferrals) left(now int64) time.Duration {
	if last := d.last.Load(); last != 0 {
		return max(0, standBack-time.Duration(now-last))
	}
	return 0
}
