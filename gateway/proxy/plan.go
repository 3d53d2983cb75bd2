package proxy

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"sluice/gateway/acl"
	"sluice/gateway/balance"
	"sluice/gateway/budget"
	"sluice/gateway/hedge"
	"sluice/gateway/route"
	"sluice/gateway/tag"
)

// plan is how a route is served, worked out once per change. It is immutable. There
// may be tens of thousands, most of them alike: what they have in common they share.
type plan struct {
	route *route.Route
	// name is the route's key in words, for logs and pages.
	name string
	*terms
	*staff
	*memory
}

// terms are what holds for requests of a route, whoever serves them.
type terms struct {
	options *tag.Options
	// closed says why nobody may use the route; "" if it is open.
	closed string
	lists  []acl.List
	// schemes are the names under which credentials are checked, all of them.
	schemes []string
	timeout time.Duration
	// sticky is what ties a client to an instance.
	sticky tag.Stickiness
	// attempts is the limit for attempts at one request.
	attempts int
	cookie   string
}

// hedge is when a request of the route is sent to a second instance.
func (pl *plan) hedge() hedge.Route {
	if pl.options.Hedge <= 0 {
		return hedge.Route{}
	}
	return hedge.Route{After: pl.options.Hedge, Recent: pl.recent}
}

// member is an instance as one route uses it.
type member struct {
	target  *target
	wire    *wire
	options *tag.Options
	// token names the instance in a cookie.
	token string
}

// mesh reports whether the instance is called over the mesh.
func (m *member) mesh() bool { return !m.wire.manner.plain }

// tls reports whether the instance is called over TLS: its own, or that of the mesh.
func (m *member) tls() bool { return m.mesh() || m.wire.manner.tls }

// scheme is what the instance is called by, as it is on the network.
func (m *member) scheme() string { return manner{tls: m.tls()}.scheme() }

// requestTarget is the path and the query that the instance gets.
func (m *member) requestTarget(x *exchange) string {
	return x.withQuery(rewriting{m.options.Strip, m.options.Prepend}.target(x.raw, x.path))
}

// staff is who serves a route. Routes that are made ready together share it, if
// they need the same: there may be thousands of the same few instances.
type staff struct {
	members []member
	// strips are what the members take off paths.
	strips []string
	wanted []balance.Member
	picker *balance.Picker
}

// staffKey is by what a staff is looked for among those that were made.
type staffKey struct {
	first   *target
	options *tag.Options
}

// made is what routes share that are made ready together.
type made struct {
	staffs map[staffKey][]*staff
	// terms are those of routes that anybody may use and that no cookie ties.
	terms map[*tag.Options]*terms
}

func newMade() made {
	return made{staffs: map[staffKey][]*staff{}, terms: map[*tag.Options]*terms{}}
}

// memory is what a route keeps from one plan to the next.
type memory struct {
	// spending is made for the first request: most routes of a large table have none.
	spending atomic.Pointer[budget.Budget]
	recent   *hedge.Quantile // of routes that hedge
	turn     balance.Turn
}

// budget returns that of the route.
func (x *exchange) budget(p *Proxy) *budget.Budget {
	m := x.plan.memory
	if b := m.spending.Load(); b != nil {
		return b
	}
	m.spending.CompareAndSwap(nil, budget.New(p.cfg.Budget))
	return m.spending.Load()
}

// planOf returns the plan of a route in a table that was published.
func planOf(r *route.Route) *plan { return r.Use.(*plan) }

// planAfter returns the plan of a route that is new or has changed. shared is
// added to.
func (f *follower) planAfter(c route.Change, shared made) *plan {
	kept := &memory{}
	if c.Before != nil {
		before := planOf(c.Before)
		if before.holds(c.After) {
			again := *before
			again.route = c.After
			return &again
		}
		kept = before.memory
	}
	return f.plan(c.After, &f.fleet, kept, shared)
}

// plan works out how a route is served.
func (p *Proxy) plan(r *route.Route, f *fleet, kept *memory, shared made) *plan {
	pl := &plan{route: r, name: r.String(), memory: kept}
	pl.terms = p.terms(pl, shared)
	if pl.options.Hedge > 0 && kept.recent == nil {
		kept.recent = hedge.NewQuantile(hedge.Percentile)
	}
	pl.staff = p.staff(pl, f, shared)
	return pl
}

// terms returns those of a route: as they were made for another one, if that has
// the same.
func (p *Proxy) terms(pl *plan, shared made) *terms {
	o := pl.route.Options
	alike := len(pl.route.Guards) == 0 && pl.route.Closed == "" && (o == nil || o.Sticky != tag.StickyCookie)
	if known := shared.terms[o]; alike && known != nil {
		return known
	}
	t := &terms{options: o, closed: pl.route.Closed}
	if o == nil {
		t.options = &tag.Options{Proto: tag.ProtoHTTP}
	}
	t.guard(pl.route.Guards)
	t.timeout = cmp.Or(t.options.Timeout, p.cfg.Timeout)
	t.sticky = t.options.Sticky
	if t.sticky == "" && cmp.Or(t.options.Strategy, p.cfg.Strategy) == tag.Hash {
		t.sticky = tag.StickyIP // as in a tag
	}
	t.attempts = 1 + p.cfg.Retries
	if t.options.RetriesSet {
		t.attempts = 1 + t.options.Retries
	}
	if t.options.Sticky == tag.StickyCookie {
		t.cookie = fmt.Sprintf("sluice-%08x", uint32(balance.Hash(pl.name)))
	}
	if alike {
		shared.terms[o] = t
	}
	return t
}

// guard works out who may use the route. What cannot be understood closes it.
func (t *terms) guard(guards []*tag.Options) {
	for _, g := range guards {
		list, err := acl.NewList(g.Allow, g.Deny)
		if err != nil && t.closed == "" {
			t.closed = err.Error()
		}
		t.lists = append(t.lists, list)
		if g.Auth != "" && !slices.Contains(t.schemes, g.Auth) {
			t.schemes = append(t.schemes, g.Auth)
		}
	}
}

// staff returns who serves the route: as it was made for another route, if one
// needs the same.
func (p *Proxy) staff(pl *plan, f *fleet, shared made) *staff {
	next := &staff{}
	for i := range pl.route.Targets {
		t := &pl.route.Targets[i]
		found, err := f.find(t.Service, t.Instance)
		if err != nil || t.Options.RedirectCode != 0 || t.Share == 0 {
			continue // a share of nothing is a decision of the operator's
		}
		next.members = append(next.members, member{target: found, wire: p.wire(found, mannerOf(t.Options)), options: t.Options, token: found.token})
		if strip := t.Options.Strip; strip != "" && !slices.Contains(next.strips, strip) {
			next.strips = append(next.strips, strip)
		}
		next.wanted = append(next.wanted, balance.Member{Endpoint: found.endpoint, Share: t.Share, Limit: cmp.Or(t.Options.MaxConn, p.cfg.MaxConn)})
	}
	strategy := cmp.Or(pl.options.Strategy, p.cfg.Strategy)
	key := staffKey{options: pl.options}
	if len(next.members) > 0 {
		key.first = next.members[0].target
	}
	if strategy != tag.RoundRobin { // whose turn it is differs from route to route
		for _, known := range shared.staffs[key] {
			if slices.Equal(known.members, next.members) && slices.Equal(known.wanted, next.wanted) {
				return known
			}
		}
	}
	tiers := pl.options.Datacenters
	if len(tiers) == 0 {
		tiers = p.cfg.Order
	}
	if len(tiers) == 0 && p.cfg.Datacenter != "" {
		tiers = append([]string{p.cfg.Datacenter}, p.cfg.Datacenters...)
	}
	next.picker = balance.NewPicker(balance.Config{
		Strategy: strategy, Members: next.wanted, Datacenters: tiers, SlowStart: p.cfg.SlowStart, Turn: &pl.turn,
	})
	shared.staffs[key] = append(shared.staffs[key], next)
	return next
}

// holds reports whether the plan is also that of r: the tags of an instance may
// have changed for another route alone.
func (pl *plan) holds(r *route.Route) bool {
	old := pl.route
	return old.Key == r.Key && old.Closed == r.Closed && slices.Equal(old.Services, r.Services) &&
		slices.EqualFunc(old.Guards, r.Guards, (*tag.Options).Equal) &&
		slices.EqualFunc(old.Targets, r.Targets, func(a, b route.Target) bool {
			return a.Share == b.Share && a.Options.Equal(b.Options) && keyOf(a.Service, a.Instance) == keyOf(b.Service, b.Instance)
		})
}
