package balance

// Reason is why an endpoint may be picked, or not.
type Reason string

// The reasons, in the order in which they are looked for.
const (
	OtherDatacenter Reason = "its datacenter is not used"
	NoShare         Reason = "it has no share"
	Gone            Reason = "it is gone from the catalog"
	Draining        Reason = "it is draining"
	Tried           Reason = "it was tried already"
	Full            Reason = "it is full"
	// Ejected and OnTrial hold unless the tier is in panic.
	Ejected Reason = "it is ejected"
	OnTrial Reason = "it was ejected, and another request is its trial"
	// LaterTier is an endpoint that could be picked if an earlier tier could not.
	LaterTier Reason = "an earlier datacenter serves"
	// EarlierTier is an ejected endpoint in whose stead a later tier serves.
	EarlierTier Reason = "it is ejected, and a later datacenter serves"
	// ForTrial, Panicking and Eligible may be picked.
	ForTrial  Reason = "eligible: the request will be its trial"
	Panicking Reason = "eligible: it is ejected, but too few are left"
	Eligible  Reason = "eligible"
)

// standing is what an endpoint's own state says about a request.
type standing uint8

const (
	able    standing = iota
	trial            // able, and the request would be the trial
	ejected          // able in a panic
	onTrial          // able in a panic
	full
	tried
	off
	withdrawn
)

// usable reports whether an endpoint may be picked.
func (s standing) usable(panicking bool) bool {
	return s <= trial || panicking && s <= onTrial
}

func (s standing) reason() Reason {
	switch s {
	case able:
		return Eligible
	case trial:
		return ForTrial
	case ejected:
		return Ejected
	case onTrial:
		return OnTrial
	case full:
		return Full
	case tried:
		return Tried
	case off:
		return Draining
	}
	return Gone
}

// standing judges the endpoint for one request.
func (m *member) standing(q *query) standing {
	e := m.Endpoint
	if marks := e.marks.Load(); marks&gone != 0 {
		return withdrawn
	} else if marks != 0 {
		return off
	}
	for _, t := range q.tried {
		if t == e {
			return tried
		}
	}
	if m.limit > 0 && e.inFlight.Load() >= m.limit {
		return full
	}
	switch until := e.until.Load(); {
	case until == 0:
		return able
	case q.now < until:
		return ejected
	case e.trial.Load() != 0:
		return onTrial
	}
	return trial
}

// survey is what there is in one tier.
type survey struct {
	// in counts the endpoints that are not ejected, and out those that are or wait
	// for a trial; both whether or not this request may use them.
	in, out int
	// able may be picked, spare only in a panic.
	able, spare int
	full, tried bool
}

func (t *tier) survey(q *query) survey {
	var s survey
	for i := range t.members {
		m := &t.members[i]
		standing := m.standing(q)
		switch standing {
		case off, withdrawn:
			continue
		case full:
			s.full = true
		case tried:
			s.tried = true
		case ejected, onTrial:
			s.spare++
		default:
			s.able++
		}
		if m.until.Load() != 0 {
			s.out++
		} else {
			s.in++
		}
	}
	return s
}

// panicking reports whether ejection leaves less than half.
func (s survey) panicking() bool { return s.out > s.in }

// where returns the tier that serves a request, whether it is in panic, and if it
// is none, why.
func (p *Picker) where(q *query) (at int, panicking bool, err error) {
	spare := -1
	var seen survey
	for i := range p.tiers {
		s := p.tiers[i].survey(q)
		seen.full = seen.full || s.full
		seen.tried = seen.tried || s.tried
		if s.able > 0 {
			q.overflow = q.overflow || seen.full
			return i, s.panicking(), nil
		}
		if s.spare > 0 && spare < 0 {
			spare = i
		}
	}
	q.overflow = q.overflow || seen.full
	switch {
	case spare >= 0:
		return spare, true, nil
	case seen.full:
		return 0, false, ErrOverflow
	case seen.tried:
		return 0, false, ErrTried
	}
	return 0, false, ErrNone
}
