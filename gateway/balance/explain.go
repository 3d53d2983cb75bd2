package balance

// Explanation is who could be picked for a request at one moment, and why the
// others not.
type Explanation struct {
	// Tier is the place of the datacenter that serves, and Datacenter its name; ""
	// if there are no tiers. They mean nothing if Err is set.
	Tier       int    `json:"tier"`
	Datacenter string `json:"datacenter,omitempty"`
	// Panic is true if ejected endpoints are used again.
	Panic bool `json:"panic"`
	// Err is the error that Pick would return; nil if somebody is eligible.
	Err error `json:"-"`
	// Members are in the order of Config.Members.
	Members []MemberExplanation `json:"members"`
}

// MemberExplanation is the part of one endpoint.
type MemberExplanation struct {
	Status
	Eligible bool   `json:"eligible"`
	Reason   Reason `json:"reason"`
	// Share is the part of the requests that falls to the endpoint, from 0 to 1,
	// before the strategy compares loads. All that are eligible add up to 1.
	Share float64 `json:"share"`
	// Warmth is less than 1 during slow start, and the Share less by as much.
	Warmth float64 `json:"warmth"`
	Limit  int     `json:"limit,omitempty"`
}

// Explain tells what Pick would choose from. It changes nothing, but allocates.
func (p *Picker) Explain(r Request) Explanation {
	q := query{now: nanoseconds(r.Now), hash: mix(r.Hash), tried: r.Tried}
	x := Explanation{Members: make([]MemberExplanation, len(p.members))}
	for i, m := range p.members {
		x.Members[i] = MemberExplanation{
			Status: m.Endpoint.Status(r.Now), Warmth: m.Endpoint.warmth(q.now, p.slowStart), Limit: m.Limit, Reason: NoShare,
		}
		if p.tierOf(m.Endpoint) < 0 {
			x.Members[i].Reason = OtherDatacenter
		}
	}
	x.Tier, x.Panic, x.Err = p.where(&q)
	q.panicking = x.Panic
	if x.Err == nil && len(p.names) > 0 {
		x.Datacenter = p.names[x.Tier]
	}
	total := 0.0
	for i := range p.tiers {
		for j := range p.tiers[i].members {
			m := &p.tiers[i].members[j]
			row := &x.Members[m.index]
			row.Reason, row.Eligible = x.reason(i, m.standing(&q))
			if row.Eligible {
				row.Share = p.weight(m, nil, &q)
				total += row.Share
			}
		}
	}
	for i := range x.Members {
		if total > 0 {
			x.Members[i].Share /= total
		}
	}
	return x
}

// reason is that of an endpoint in a tier, in the light of which tier serves.
func (x *Explanation) reason(tier int, s standing) (reason Reason, eligible bool) {
	switch {
	case x.Err != nil || s > onTrial:
		return s.reason(), false
	case tier > x.Tier && s.usable(false):
		return LaterTier, false
	case tier < x.Tier:
		return EarlierTier, false
	case tier != x.Tier || !s.usable(x.Panic):
		return s.reason(), false
	case s == ejected || s == onTrial:
		return Panicking, true
	}
	return s.reason(), true
}
