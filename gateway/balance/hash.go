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
	c, owner := crowd{inFlight: 1}, bid{}
	for i := range t.members {
		m := &t.members[i]
		weight := p.weight(m, nil, q)
		if weight == 0 {
			continue
		}
		c.add(m, weight, q)
		if b := (bid{member: m, weight: weight, number: mix(m.hash ^ q.hash)}); b.beats(&owner) {
			owner = b
		}
	}
	if owner.member == nil || c.room(owner.member, owner.weight, q) {
		return owner.member
	}
	var best bid
	for i := range t.members {
		m := &t.members[i]
		weight := p.weight(m, nil, q)
		if weight == 0 || c.standsBack(m, q) || !c.room(m, weight, q) {
			continue
		}
		if b := (bid{member: m, weight: weight, number: mix(m.hash ^ q.hash)}); b.beats(&best) {
			best = b
		}
	}
	if best.member == nil { // everybody got requests since they were counted
		return owner.member
	}
	return best.member
}

// crowd is what the usable members of a tier have together, one request more included.
type crowd struct {
	members, backs   int
	weight, inFlight float64
	// backWeight and backInFlight are the parts of those that defer, backs of members.
	backWeight, backInFlight float64
}

func (c *crowd) add(m *member, weight float64, q *query) {
	inFlight := float64(m.inFlight.Load())
	c.members++
	c.weight += weight
	c.inFlight += inFlight
	if m.deferrals.at(q.now) == deferring {
		c.backs++
		c.backWeight += weight
		c.backInFlight += inFlight
	}
}

// standsBack reports whether a member defers while another does not.
func (c *crowd) standsBack(m *member, q *query) bool {
	return c.backs > 0 && c.backs < c.members && m.deferrals.at(q.now) == deferring
}

// room reports whether a member may have one more in flight, beside all others if it
// stands back, and else beside those that do not.
func (c *crowd) room(m *member, weight float64, q *query) bool {
	total, inFlight := c.weight, c.inFlight
	if c.backs > 0 && c.backs < c.members && !c.standsBack(m, q) {
		total, inFlight = total-c.backWeight, inFlight-c.backInFlight
	}
	return float64(m.inFlight.Load()) < math.Ceil(weight*(spread*inFlight/total))
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
