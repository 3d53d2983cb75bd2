package balance

import "math"

// Hash returns a number that is the same for the same text on every gateway, for
// Request.Hash. It is FNV-1a with a finisher, and no secret: who chooses the text
// can choose the endpoint.
func Hash(text string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	return mix(h)
}

// mix spreads the bits of h: the finisher of SplitMix64 (Steele, Lea and Flood,
// 2014).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// hashed chooses by weighted rendezvous hashing (Thaler and Ravishankar, 1996):
// each member draws a number from its key and the request's hash, and the best
// wins. So an endpoint that leaves takes nothing along but its own requests, and
// one that joins takes only what it gets. Members that have more in flight than
// spread allows are passed over. One that defers keeps its own requests, but gets none
// of those that others are passed over for, and makes nobody else look crowded.
func (p *Picker) hashed(t *tier, q *query) *member {
	c := p.crowd(t, q)
	var owner, best bid
	room := false // of the owner
	for i := range t.members {
		m := &t.members[i]
		weight := p.weight(m, nil, q)
		if weight == 0 {
			continue
		}
		b := bid{member: m, weight: weight, number: mix(m.hash ^ q.hash)}
		back := c.standsBack(m, q)
		fits := float64(m.inFlight.Load()) < math.Ceil(weight*c.perWeight(back))
		if b.beats(&owner) {
			owner, room = b, fits
		}
		if fits && !back && b.beats(&best) {
			best = b
		}
	}
	if room || best.member == nil { // nil is that everybody got requests since they were counted
		return owner.member
	}
	return best.member
}

// crowd is what the usable members of a tier have together, one request more included.
type crowd struct {
	weight, inFlight float64
	// frontWeight and frontInFlight are the same of those that do not defer.
	frontWeight, frontInFlight float64
}

func (p *Picker) crowd(t *tier, q *query) crowd {
	c := crowd{inFlight: 1, frontInFlight: 1}
	for i := range t.members {
		m := &t.members[i]
		weight := p.weight(m, nil, q)
		if weight == 0 {
			continue
		}
		inFlight := float64(m.inFlight.Load())
		c.weight += weight
		c.inFlight += inFlight
		if m.deferrals.at(q.now) != deferring {
			c.frontWeight += weight
			c.frontInFlight += inFlight
		}
	}
	return c
}

// standsBack reports whether a member defers while another does not.
func (c *crowd) standsBack(m *member, q *query) bool {
	return c.frontWeight > 0 && m.deferrals.at(q.now) == deferring
}

// perWeight is how much a member may have in flight for each unit of its weight.
func (c *crowd) perWeight(back bool) float64 {
	if back || c.frontWeight == 0 {
		return spread * c.inFlight / c.weight
	}
	return spread * c.frontInFlight / c.frontWeight
}

// bid is what a member draws.
type bid struct {
	member *member
	weight float64
	number uint64
}

// beats compares -ln(u)/weight of both, u being the number scaled to 0..1: the
// smallest wins with a probability in proportion to its weight.
func (b *bid) beats(other *bid) bool {
	if other.member == nil {
		return true
	}
	if b.weight == other.weight {
		return b.number > other.number
	}
	return math.Log(unit(b.number))/b.weight > math.Log(unit(other.number))/other.weight
}

// unit scales a number to more than 0 and less than 1.
func unit(n uint64) float64 { return (float64(n>>11) + 0.5) * 0x1p-53 }
