// Package balance chooses which endpoint takes a request, and learns from how the
// request went.
//
// A Picker is an immutable choice among the endpoints of one route; an update of
// the route makes another. The state of an endpoint outlives it: requests in
// flight, latency, failures, ejection, slow start. It is kept by a Group, one per
// service and datacenter. Pickers share endpoints, so what one route learns all know.
//
// Who may be picked: an endpoint that is not gone, draining, full or tried before
// by the same request, and neither ejected nor waiting for a trial that somebody
// else is making. Datacenters are tiers: the first one that has such an endpoint
// serves. If in it ejection leaves less than half, the ejected ones are used again
// (panic: the few would not bear the load of all). If no tier has any, ejected
// ones are the last resort, in the first tier that has them. What is gone,
// draining, full or tried is never picked.
//
// Shares hold under every strategy: what fixed shares say is drawn first, and only
// among endpoints of the same share does load, or latency, decide. So a canary of
// 5 % gets 5 %, however fast it is.
//
// Picking takes no lock and allocates nothing. The package does no I/O, starts
// nothing, and is told the time.
package balance

import (
	"cmp"
	"errors"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/tag"
)

const (
	// DefaultSlowStart is how long a new endpoint's share grows.
	DefaultSlowStart = 10 * time.Second
	// coldest is the part of its share with which slow start begins: none at all
	// would leave an endpoint cold until the time is over.
	coldest = 0.05
	// leastShare is the least that a share counts for beside the greatest one.
	leastShare = 0x1p-60
	// golden is 2^64 / the golden ratio: its multiples, modulo 2^64, are spread as
	// evenly as a sequence can be.
	golden = 0x9E3779B97F4A7C15
)

// Why nobody was picked.
var (
	// ErrNone means that there is no endpoint to use.
	ErrNone = errors.New("no instance can take the request")
	// ErrOverflow means that an endpoint could be used, but is full.
	ErrOverflow = errors.New("every instance has as many requests in flight as it may have")
	// ErrTried means that every endpoint that could be used was tried before.
	ErrTried = errors.New("every instance was tried")
)

// Member is an endpoint's part in a Picker.
type Member struct {
	Endpoint *Endpoint
	// Share is relative to the other shares of the tier. A member without a share
	// gets nothing, but if nobody has one all are equal.
	Share float64
	// Limit bounds the requests in flight to the endpoint, those of other pickers
	// included; 0 is no limit.
	Limit int
}

// Config is what a Picker is made of.
type Config struct {
	// Strategy is how one of several is picked; "" is tag.P2C.
	Strategy tag.Strategy
	Members  []Member
	// Datacenters are the tiers in order of preference. An endpoint elsewhere is
	// not used. Empty makes one tier of all.
	Datacenters []string
	// SlowStart is how long a new endpoint's share grows; 0 is DefaultSlowStart,
	// negative is none.
	SlowStart time.Duration
	// Turn is where round robin goes on from, kept by the caller from one Picker of
	// a route to the next; nil begins anywhere.
	Turn *Turn
	// Random returns 64 random bits, from several goroutines at once; nil is
	// rand.Uint64.
	Random func() uint64
}

// Turn is a position in a round, and in the rounds of those that have the same
// share. The zero Turn is the beginning. It is safe for concurrent use and must not
// be copied.
type Turn struct {
	n  atomic.Uint64
	mu sync.Mutex
	// within has one for each class, by tier and rank. They outlive the classes: with
	// a round that begins anew at each change, the first would get everything while
	// changes come faster than requests.
	within [][]*atomic.Uint64
}

// of returns the position within a class; begin is where it begins.
func (t *Turn) of(tier, rank int, begin uint64) *atomic.Uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.within) <= tier {
		t.within = append(t.within, nil)
	}
	for len(t.within[tier]) <= rank {
		position := &atomic.Uint64{}
		position.Store(begin)
		t.within[tier] = append(t.within[tier], position)
	}
	return t.within[tier][rank]
}

// Picker picks endpoints. It is immutable and safe for concurrent use.
type Picker struct {
	strategy  tag.Strategy
	slowStart time.Duration
	turn      *Turn
	random    func() uint64
	tiers     []tier
	members   []Member
	names     []string // of the tiers
}

// tier is the members in one datacenter, ordered by share.
type tier struct {
	members []member
	classes []class
	groups  []*Group
}

type member struct {
	*Endpoint
	limit int64
	share float64
	index int // in Config.Members
	class int
}

// class is the members that have the same share.
type class struct {
	from, to int
	// upTo is the last of the 2^64 points of the tier that fall to it.
	upTo uint64
	turn *atomic.Uint64
}

// NewPicker returns a picker for members, which may be none.
func NewPicker(cfg Config) *Picker {
	p := &Picker{
		strategy: cmp.Or(cfg.Strategy, tag.P2C), slowStart: cmp.Or(cfg.SlowStart, DefaultSlowStart),
		turn: cfg.Turn, random: cfg.Random, members: slices.Clone(cfg.Members), names: slices.Clone(cfg.Datacenters),
	}
	if p.random == nil {
		p.random = rand.Uint64
	}
	if p.turn == nil {
		p.turn = &Turn{}
		p.turn.n.Store(p.random())
	}
	p.tiers = make([]tier, max(1, len(p.names)))
	for i, m := range shared(cfg.Members) {
		if at := p.tierOf(m.Endpoint); at >= 0 && m.Share > 0 {
			t := &p.tiers[at]
			if !slices.Contains(t.groups, m.Endpoint.group) {
				t.groups = append(t.groups, m.Endpoint.group)
			}
			t.members = append(t.members, member{Endpoint: m.Endpoint, limit: int64(m.Limit), share: m.Share, index: i})
		}
	}
	for i := range p.tiers {
		p.tiers[i].classify()
		p.takeTurns(i)
	}
	return p
}

// shared returns members with shares that mean something.
func shared(members []Member) []Member {
	members = slices.Clone(members)
	some := false
	for i := range members {
		if !(members[i].Share > 0) || math.IsInf(members[i].Share, 0) { // NaN, too
			members[i].Share = 0
		}
		some = some || members[i].Share > 0
	}
	for i := range members {
		if !some {
			members[i].Share = 1
		}
	}
	return members
}

func (p *Picker) tierOf(e *Endpoint) int {
	if len(p.names) == 0 {
		return 0
	}
	return slices.Index(p.names, e.datacenter)
}

// takeTurns gives the classes of a tier their positions, where there are rounds.
func (p *Picker) takeTurns(at int) {
	if p.strategy != tag.RoundRobin {
		return
	}
	for i := range p.tiers[at].classes {
		p.tiers[at].classes[i].turn = p.turn.of(at, i, p.turn.n.Load())
	}
}

// classify orders the members and makes the classes. Shares become parts of the
// greatest, so that no sum of them overflows and no product comes to nothing.
func (t *tier) classify() {
	slices.SortStableFunc(t.members, func(a, b member) int { return cmp.Compare(b.share, a.share) })
	total := 0.0
	for i, greatest := 0, 0.0; i < len(t.members); i++ {
		if i == 0 {
			greatest = t.members[0].share
		}
		t.members[i].share = max(t.members[i].share/greatest, leastShare)
		total += t.members[i].share
		if i == 0 || !alike(t.members[t.classes[len(t.classes)-1].from].share, t.members[i].share) {
			t.classes = append(t.classes, class{from: i})
		}
		t.members[i].class = len(t.classes) - 1
		t.classes[len(t.classes)-1].to = i + 1
	}
	sum := 0.0
	for i := range t.classes {
		c := &t.classes[i]
		for _, m := range t.members[c.from:c.to] {
			sum += m.share
		}
		c.upTo = math.MaxUint64
		if part := math.Ldexp(sum/total, 64); i < len(t.classes)-1 && part < math.MaxUint64 {
			c.upTo = uint64(part)
		}
	}
}

// alike reports whether shares differ by no more than the error of computing them.
func alike(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(a, b) }

// at returns the class that the point falls to.
func (t *tier) at(point uint64) *class {
	return &t.classes[sort.Search(len(t.classes)-1, func(i int) bool { return point <= t.classes[i].upTo })]
}

// draw returns the member whose turn it is, by share.
func (p *Picker) draw(t *tier) *member {
	if p.strategy == tag.RoundRobin {
		n := p.turn.n.Add(1)
		if len(t.classes) == 1 {
			return &t.members[n%uint64(len(t.members))]
		}
		c := t.at(n * golden)
		return &t.members[c.from+int(c.turn.Add(1)%uint64(c.to-c.from))]
	}
	c := &t.classes[0]
	if len(t.classes) > 1 {
		c = t.at(p.random())
	}
	return &t.members[c.from+below(p.random(), c.to-c.from)]
}

// below maps random bits to a number less than n.
func below(random uint64, n int) int {
	high, _ := bits.Mul64(random, uint64(n))
	return int(high)
}
