package balance

import (
	"sync"
	"sync/atomic"
	"time"
)

// Ejection says when an endpoint that fails is left out, and for how long. Zero
// fields have the defaults that are named.
type Ejection struct {
	// Origin and Local are the numbers of failures in a row of either kind that
	// eject, 5 and 2; negative is never. Local ones are fewer, because a connection
	// that is refused says more than an answer 500.
	Origin, Local int
	// Base is the length of the first ejection, 10 s; each further one is longer by
	// Base, up to Max, 5 min. For every Base without a failure it gets shorter again.
	Base, Max time.Duration
	// Percent bounds how many of the group may be ejected at a time, 50; one always
	// may be.
	Percent int
}

func (e Ejection) withDefaults() Ejection {
	for _, d := range []struct {
		field *int
		value int
	}{{&e.Origin, 5}, {&e.Local, 2}, {&e.Percent, 50}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if e.Base <= 0 {
		e.Base = 10 * time.Second
	}
	if e.Max <= 0 {
		e.Max = 5 * time.Minute
	}
	e.Max = max(e.Max, e.Base)
	return e
}

// keepGone is how long the state of an endpoint is kept after it went, so that
// one that flaps does not start anew each time.
const keepGone = time.Minute

// Group holds endpoints by key and ejects those of them that fail. It is meant for
// one service in one datacenter: so far off endpoints do not make room for the
// ejection of near ones. It is safe for concurrent use.
type Group struct {
	ejection Ejection
	// tell is told of transitions; may be nil.
	tell func(Transition)
	// out is the number of present endpoints that are ejected or wait for a trial.
	out atomic.Int32

	mu        sync.Mutex
	endpoints map[string]*Endpoint // those that went, too
	present   int
}

// NewGroup returns a group without endpoints.
func NewGroup(ejection Ejection) *Group {
	return &Group{ejection: ejection.withDefaults(), endpoints: map[string]*Endpoint{}}
}

// Transition is an ejection, or its end.
type Transition struct {
	Key string
	// Until is when the ejection ends; zero says that the endpoint is back in use.
	Until time.Time
	// Trial is true if a trial decided so, and false if failures in a row did.
	Trial bool
	// OriginFailures and LocalFailures are those in a row.
	OriginFailures, LocalFailures int
}

// Notify has tell called with each transition, one at a time, in the course of the
// request that causes it: it must not wait, nor use the group. Call it before the
// group has endpoints.
func (g *Group) Notify(tell func(Transition)) { g.tell = tell }

// moved needs the lock.
func (g *Group) moved(e *Endpoint, trial bool) {
	if g.tell == nil {
		return
	}
	g.tell(Transition{
		Key: e.key, Until: timeOf(e.until.Load()), Trial: trial,
		OriginFailures: int(e.origin.Load()), LocalFailures: int(e.local.Load()),
	})
}

// Instance names an endpoint of a group.
type Instance struct {
	// Key is opaque. It is the same as long as the instance is, on every gateway:
	// consistent hashing places the endpoint by it.
	Key        string
	Datacenter string
}

// Update makes the group consist of instances, and returns their endpoints in the
// same order. Endpoints that it had before keep their state. Those that are new
// begin their slow start at now, except in a group where nobody is left to take
// the load meanwhile. Those that are missing are picked no more,
// not even by an old picker. One that returns begins its slow start again, and if
// it was ejected, with a trial at once: the catalog has news of it.
func (g *Group) Update(now time.Time, instances []Instance) []*Endpoint {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := nanoseconds(now)
	alone := g.present == 0
	listed := make(map[string]bool, len(instances))
	endpoints := make([]*Endpoint, len(instances))
	for i, instance := range instances {
		listed[instance.Key] = true
		e := g.endpoints[instance.Key]
		switch {
		case e == nil || e.datacenter != instance.Datacenter:
			if e != nil {
				g.remove(e, at)
			}
			e = g.add(instance)
			if !alone {
				e.since.Store(at)
			}
		case e.marks.Load()&gone != 0:
			g.restore(e, at)
			if alone {
				e.since.Store(0)
			}
		}
		endpoints[i] = e
	}
	for key, e := range g.endpoints {
		if listed[key] {
			continue
		}
		if e.marks.Load()&gone == 0 {
			g.remove(e, at)
		} else if at-e.left >= int64(keepGone) && e.inFlight.Load() == 0 {
			delete(g.endpoints, key)
		}
	}
	return endpoints
}

func (g *Group) add(instance Instance) *Endpoint {
	e := &Endpoint{key: instance.Key, datacenter: instance.Datacenter, hash: Hash(instance.Key), group: g}
	g.endpoints[instance.Key] = e
	g.present++
	return e
}

func (g *Group) remove(e *Endpoint, at int64) {
	e.mark(gone, true)
	e.left = at
	g.present--
	if e.until.Load() != 0 {
		g.out.Add(-1)
	}
}

func (g *Group) restore(e *Endpoint, at int64) {
	e.since.Store(at)
	if until := e.until.Load(); until != 0 {
		e.until.Store(min(until, at))
		g.out.Add(1)
	}
	g.present++
	e.mark(gone, false)
}

// Ejected returns how many endpoints are ejected or wait for a trial, and how many
// there are.
func (g *Group) Ejected() (ejected, of int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return int(g.out.Load()), g.present
}

// room reports whether one more may be ejected. It needs the lock.
func (g *Group) room() bool {
	out := int(g.out.Load())
	return out == 0 || (out+1)*100 <= g.ejection.Percent*g.present
}

// eject leaves the endpoint out for a while, if there is room.
func (g *Group) eject(e *Endpoint, at int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e.until.Load() != 0 || e.marks.Load()&gone != 0 || !g.room() {
		return
	}
	g.out.Add(1)
	g.prolong(e, at)
	g.moved(e, false)
}

// prolong needs the lock.
func (g *Group) prolong(e *Endpoint, at int64) {
	if calm := at - e.back; e.back != 0 && calm > 0 {
		e.ejections = max(0, e.ejections-int(calm/int64(g.ejection.Base)))
	}
	e.ejections++
	most := int64(g.ejection.Max / g.ejection.Base)
	length := min(int64(g.ejection.Max), int64(g.ejection.Base)*min(int64(e.ejections), most+1))
	e.back = at + length
	e.until.Store(at + length)
}

// judge ends the endpoint's trial of that number, if it is not over yet: back into
// use, or out for longer.
func (g *Group) judge(e *Endpoint, trial uint64, at int64, success bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e.trial.Load() != trial {
		return
	}
	if e.until.Load() == 0 {
		// Another trial ended while this one began: the endpoint is back already.
		e.trial.CompareAndSwap(trial, 0)
		return
	}
	if success {
		e.origin.Store(0)
		e.local.Store(0)
		e.back = at
		e.until.Store(0)
		if e.marks.Load()&gone == 0 {
			g.out.Add(-1)
		}
	} else {
		g.prolong(e, at)
	}
	g.moved(e, true)
	e.trial.CompareAndSwap(trial, 0)
}
