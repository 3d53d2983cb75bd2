package balance

import (
	"math"

	"sluice/gateway/tag"
)

const (
	// draws is how often an endpoint is drawn before all of them are looked at.
	draws = 4
	// overtaken is how often a pick is made again because somebody else took the
	// last place of the chosen endpoint.
	overtaken = 8
	// spread is by how much the requests in flight to an endpoint may exceed its
	// part before consistent hashing goes on to the next; Mirrokni, Thorup and
	// Zadimoghaddam, "Consistent Hashing with Bounded Loads" (2017), with HAProxy's
	// and Envoy's usual factor.
	spread = 1.25
)

// query is a request while it is picked for.
type query struct {
	now       int64
	hash      uint64
	tried     []*Endpoint
	tier      int
	panicking bool
	overflow  bool
}

// Pick chooses an endpoint and counts the request in. The errors are ErrNone,
// ErrOverflow and ErrTried. It takes no lock and allocates nothing.
func (p *Picker) Pick(r Request) (Pick, error) {
	q := query{now: nanoseconds(r.Now), hash: mix(r.Hash), tried: r.Tried}
	for range overtaken {
		m := p.quick(&q)
		if m == nil {
			var err error
			if m, err = p.careful(&q); err != nil {
				return Pick{}, err
			}
		}
		if pick, ok := m.begin(&q); ok {
			return pick, nil
		}
	}
	return Pick{}, ErrOverflow
}

// begin counts the request in, unless the endpoint was filled, ejected or put on
// trial by another meanwhile.
func (m *member) begin(q *query) (Pick, bool) {
	e := m.Endpoint
	if !e.acquire(m.limit) {
		q.overflow = true
		return Pick{}, false
	}
	pick := Pick{Endpoint: e, Index: m.index, Tier: q.tier, Panic: q.panicking, Overflow: q.overflow}
	until := e.until.Load()
	if until == 0 {
		return pick, true
	}
	if q.now >= until {
		pick.trial = e.trials.Add(1)
		if pick.Trial = e.trial.CompareAndSwap(0, pick.trial); pick.Trial {
			return pick, true
		}
	}
	if q.panicking {
		return pick, true
	}
	e.inFlight.Add(-1)
	return Pick{}, false
}

// quick draws while nobody is ejected, and so no panic possible; nil is that
// the draw was not lucky.
func (p *Picker) quick(q *query) *member {
	t := &p.tiers[0]
	if p.strategy == tag.Hash || len(t.members) == 0 {
		return nil
	}
	for _, g := range t.groups {
		if g.out.Load() != 0 {
			return nil
		}
	}
	q.tier, q.panicking = 0, false
	for range draws {
		if first := p.draw(t); p.ready(first, q) {
			return p.rival(t, first, q)
		}
	}
	return nil
}

// ready reports whether a drawn member may be picked. One in slow start passes as
// often as its warmth says, unless it is alone.
func (p *Picker) ready(m *member, q *query) bool {
	switch m.standing(q) {
	case able:
	case full:
		q.overflow = true
		return false
	default:
		return false
	}
	warmth := m.warmth(q.now, p.slowStart)
	return warmth == 1 || len(p.tiers[q.tier].members) == 1 || float64(p.random()>>11)*0x1p-53 < warmth
}

// rival draws a second member with the same share, where the strategy compares
// two, and returns the better one. On a tie that is the first: so shares hold.
func (p *Picker) rival(t *tier, first *member, q *query) *member {
	c := &t.classes[first.class]
	if c.to-c.from < 2 || p.strategy != tag.P2C && p.strategy != tag.EWMA {
		return first
	}
	second := &t.members[c.from+below(p.random(), c.to-c.from-1)]
	if first == second {
		second = &t.members[c.to-1]
	}
	if p.ready(second, q) {
		return p.better(first, second, q)
	}
	return first
}

func (p *Picker) better(first, second *member, q *query) *member {
	switch one, other := first.deferrals.at(q.now), second.deferrals.at(q.now); {
	case other > one:
		return first
	case one == deferring && other < one:
		return second
	}
	less := second.inFlight.Load() < first.inFlight.Load()
	if p.strategy == tag.EWMA {
		less = second.load(q.now) < first.load(q.now)
	}
	if less {
		return second
	}
	return first
}

// careful looks at all members.
func (p *Picker) careful(q *query) (*member, error) {
	for range overtaken {
		at, panicking, err := p.where(q)
		if err != nil {
			return nil, err
		}
		q.tier, q.panicking = at, panicking
		t := &p.tiers[at]
		var m *member
		if p.strategy == tag.Hash {
			m = p.hashed(t, q)
		} else {
			m = p.weighed(t, q)
		}
		if m != nil {
			return m, nil
		}
	}
	return nil, ErrOverflow
}

// weighed chooses among the usable members of a tier by share and warmth, and
// where the strategy compares two, between that one and another of its share. nil
// is that nobody is usable any more.
func (p *Picker) weighed(t *tier, q *query) *member {
	point := p.random()
	if p.strategy == tag.RoundRobin {
		point = p.turn.n.Add(1) * golden
	}
	first := p.walk(t.members, nil, point, q)
	if first == nil || p.strategy != tag.P2C && p.strategy != tag.EWMA {
		return first
	}
	c := &t.classes[first.class]
	if second := p.walk(t.members[c.from:c.to], first, p.random(), q); second != nil {
		return p.better(first, second, q)
	}
	return first
}

// walk returns the usable member, other than one, that the point falls to.
func (p *Picker) walk(members []member, other *member, point uint64, q *query) *member {
	total := 0.0
	for i := range members {
		total += p.weight(&members[i], other, q)
	}
	left := math.Ldexp(float64(point), -64) * total
	var last *member
	for i := range members {
		weight := p.weight(&members[i], other, q)
		if weight == 0 {
			continue
		}
		last = &members[i]
		if left -= weight; left < 0 {
			break
		}
	}
	return last
}

// weight is a member's share, made less by slow start; 0 if it is not usable.
func (p *Picker) weight(m, other *member, q *query) float64 {
	if m == other || !m.standing(q).usable(q.panicking) {
		return 0
	}
	return m.share * m.warmth(q.now, p.slowStart)
}
