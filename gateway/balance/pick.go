package balance

import (
	"sync/atomic"
	"time"
)

// Request is what a pick depends on.
type Request struct {
	Now time.Time
	// Hash is what consistent hashing goes by; see Hash.
	Hash uint64
	// Tried are the endpoints that are not to be picked again. It is only read.
	Tried []*Endpoint
}

// Pick is one attempt at an endpoint. Whoever has it must call Release once, and
// Report before that.
type Pick struct {
	Endpoint *Endpoint
	// Index is the endpoint's place in Config.Members.
	Index int
	// Tier is the place of its datacenter in Config.Datacenters; 0 if there are none.
	Tier int
	// Panic is true if ejected endpoints were used again, maybe not for this pick.
	Panic bool
	// Trial is true if the outcome decides whether an ejected endpoint is back.
	Trial bool
	trial uint64
	// Overflow is true if an endpoint was passed over because it is full.
	Overflow bool
}

// Report tells how the attempt went. latency is the time from sending the request
// to the head of the answer, or to the failure. What fails later, in the body, may
// be reported as well.
func (p Pick) Report(now time.Time, outcome Outcome, latency time.Duration) {
	e, at := p.Endpoint, nanoseconds(now)
	switch outcome {
	case Success:
		reset(&e.origin)
		reset(&e.local)
		e.deferrals.end()
		e.latency.observe(at, microseconds(latency))
	case OriginFailure:
		reset(&e.local) // there was a connection
		e.latency.raise(at, microseconds(latency))
	case LocalFailure:
		e.latency.raise(at, microseconds(latency))
	case Deferred:
		e.deferrals.begin(at)
		return
	default:
		return
	}
	e.failures.observe(at, outcome.Failure())
	if p.Trial {
		e.group.judge(e, p.trial, at, outcome == Success)
		return
	}
	limits := &e.group.ejection
	if outcome == OriginFailure && reached(e.origin.Add(1), limits.Origin) ||
		outcome == LocalFailure && reached(e.local.Add(1), limits.Local) {
		e.group.eject(e, at)
	}
}

// Release ends the attempt: the body was read to its end, or the attempt failed.
// A trial that was not reported as success or failure is left to somebody else.
func (p Pick) Release() {
	if p.Trial {
		p.Endpoint.trial.CompareAndSwap(p.trial, 0)
	}
	p.Endpoint.inFlight.Add(-1)
}

// reset writes only if there is something to write: after a success there rarely is.
func reset(n *atomic.Int32) {
	if n.Load() != 0 {
		n.Store(0)
	}
}

func reached(n int32, limit int) bool { return limit > 0 && int(n) >= limit }
