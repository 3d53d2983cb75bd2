package balance

import (
	"sync/atomic"
	"time"
)

const (
	gone     = 1 << iota // no longer in the catalog as healthy
	draining             // somebody asked for it
)

// Endpoint is what is known about one instance while it takes requests. It
// outlives the pickers, which are rebuilt with every change: a Group keeps it by
// its key. It is safe for concurrent use, and nothing that a request does to it
// takes a lock, except to eject.
type Endpoint struct {
	key        string
	datacenter string
	hash       uint64
	group      *Group

	_ [64]byte // what is above is only read; below it, each request writes

	inFlight atomic.Int64
	marks    atomic.Uint32
	// origin and local count failures since the last success of that kind.
	origin, local atomic.Int32
	latency       latency
	failures      failures
	deferrals     deferrals
	// since is when slow start began, in Unix nanoseconds; 0 is long ago.
	since atomic.Int64
	// until is 0 while the endpoint is in use. Else it has been ejected until then,
	// and after that waits for a trial to succeed. Written under the group's lock.
	until atomic.Int64
	// trial is the number of the trial that is out; 0 is none. A trial that is over
	// can so do nothing to the next.
	trial  atomic.Uint64
	trials atomic.Uint64

	// Guarded by the group's lock.
	ejections int
	back      int64 // when the last ejection was over
	left      int64 // when it went from the catalog

	_ [64]byte
}

// Key is the caller's name for the instance.
func (e *Endpoint) Key() string { return e.key }

// Datacenter is where the instance is.
func (e *Endpoint) Datacenter() string { return e.datacenter }

// InFlight is the number of requests that were picked and not yet released.
func (e *Endpoint) InFlight() int { return int(e.inFlight.Load()) }

// Drain stops, or with false resumes, the picking of the endpoint by every
// picker. What is in flight is left alone; InFlight says when it is done.
func (e *Endpoint) Drain(on bool) { e.mark(draining, on) }

func (e *Endpoint) mark(bit uint32, on bool) {
	if on {
		e.marks.Or(bit)
	} else {
		e.marks.And(^bit)
	}
}

// Status is an endpoint's state at one moment.
type Status struct {
	Key        string `json:"key"`
	Datacenter string `json:"datacenter"`
	InFlight   int    `json:"in_flight"`
	// Latency is the peak EWMA of the time to the head of an answer; 0 is unknown.
	Latency time.Duration `json:"latency_ns"`
	// FailureRate is of the last requests, from 0 to 1, fading in 10 s.
	FailureRate float64 `json:"failure_rate"`
	// OriginFailures and LocalFailures are those without a success between.
	OriginFailures int `json:"origin_failures"`
	LocalFailures  int `json:"local_failures"`
	// EjectedUntil is zero while the endpoint is in use. In the past it means that
	// the endpoint waits for a trial.
	EjectedUntil time.Time `json:"ejected_until,omitzero"`
	// Deferred is true from an answer that says when to come back until the next success,
	// and DeferringFor how much longer the endpoint stands back for it, where the strategy
	// has it so; 0 is no longer.
	Deferred     bool          `json:"deferred,omitempty"`
	DeferringFor time.Duration `json:"deferring_for_ns,omitempty"`
	// Ejections is by how much the next ejection is longer than the first.
	Ejections int  `json:"ejections"`
	Draining  bool `json:"draining,omitempty"`
	Gone      bool `json:"gone,omitempty"`
}

// Status returns the state at now.
func (e *Endpoint) Status(now time.Time) Status {
	at := nanoseconds(now)
	_, latency := e.latency.read(at)
	_, failing := e.failures.read(at)
	e.group.mu.Lock()
	ejections := e.ejections
	e.group.mu.Unlock()
	return Status{
		Key: e.key, Datacenter: e.datacenter, InFlight: e.InFlight(),
		Latency: time.Duration(latency * float32(time.Microsecond)), FailureRate: float64(failing),
		OriginFailures: int(e.origin.Load()), LocalFailures: int(e.local.Load()),
		EjectedUntil: timeOf(e.until.Load()), Ejections: ejections, Deferred: e.deferrals.at(at) != serving, DeferringFor: e.deferrals.left(at),
		Draining: e.marks.Load()&draining != 0, Gone: e.marks.Load()&gone != 0,
	}
}

// acquire counts a request in, unless limit are in flight already; 0 is no limit.
func (e *Endpoint) acquire(limit int64) bool {
	if limit <= 0 {
		e.inFlight.Add(1)
		return true
	}
	for {
		n := e.inFlight.Load()
		if n >= limit {
			return false
		}
		if e.inFlight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// warmth is the part of its share that the endpoint gets: it grows with age over
// the time of slow start, from coldest to 1.
func (e *Endpoint) warmth(now int64, slowStart time.Duration) float64 {
	since := e.since.Load()
	if since == 0 || slowStart <= 0 {
		return 1
	}
	age := now - since
	if age >= int64(slowStart) {
		return 1
	}
	return max(coldest, float64(age)/float64(slowStart))
}

func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func timeOf(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}
