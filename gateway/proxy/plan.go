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

// plan is how a route is served, worked out once per change. It is immutable.
type plan struct {
	route *route.Route
	// name is the route's key in words, for logs and pages.
	name    string
	options *tag.Options
	// closed says why nobody may use the route; "" if it is open.
	closed string
	lists  []acl.List
	// schemes are the names under which credentials are checked, all of them.
	schemes []string
	*staff
	*memory
	timeout time.Duration
	// attempts is the limit for attempts at one request.
	attempts int
	hedge    hedge.Route
	cookie   string
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

// staffs are those that were made for one table.
type staffs map[staffKey][]*staff

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

// planAfter returns the plan of a route that is new or has changed. made is
// added to.
func (f *follower) planAfter(c route.Change, made staffs) *plan {
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
	return f.plan(c.After, &f.fleet, kept, made)
}

// plan works out how a route is served.
func (p *Proxy) plan(r *route.Route, f *fleet, kept *memory, made staffs) *plan {
	pl := &plan{route: r, name: r.String(), options: r.Options, closed: r.Closed, memory: kept}
	if pl.options == nil {
		pl.options = &tag.Options{Proto: tag.ProtoHTTP}
	}
	pl.guard()
	o := pl.options
	pl.timeout = cmp.Or(o.Timeout, p.cfg.Timeout)
	pl.attempts = 1 + p.cfg.Retries
	if o.RetriesSet {
		pl.attempts = 1 + o.Retries
	}
	if o.Hedge > 0 {
		if kept.recent == nil {
			kept.recent = hedge.NewQuantile(hedge.Percentile)
		}
		pl.hedge = hedge.Route{After: o.Hedge, Recent: kept.recent}
	}
	if o.Sticky == tag.StickyCookie {
		pl.cookie = fmt.Sprintf("sluice-%08x", uint32(balance.Hash(pl.name)))
	}
	pl.staff = p.staff(pl, f, made)
	return pl
}

// guard works out who may use the route. What cannot be understood closes it.
func (pl *plan) guard() {
	for _, g := range pl.route.Guards {
		list, err := acl.NewList(g.Allow, g.Deny)
		if err != nil && pl.closed == "" {
			pl.closed = err.Error()
		}
		pl.lists = append(pl.lists, list)
		if g.Auth != "" && !slices.Contains(pl.schemes, g.Auth) {
			pl.schemes = append(pl.schemes, g.Auth)
		}
	}
}

// staff returns who serves the route: as it was made for another route, if one
// needs the same.
func (p *Proxy) staff(pl *plan, f *fleet, made staffs) *staff {
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
		for _, known := range made[key] {
			if slices.Equal(known.members, next.members) && slices.Equal(known.wanted, next.wanted) {
				return known
			}
		}
	}
	tiers := pl.options.Datacenters
	if len(tiers) == 0 && p.cfg.Datacenter != "" {
		tiers = append([]string{p.cfg.Datacenter}, p.cfg.Datacenters...)
	}
	next.picker = balance.NewPicker(balance.Config{
		Strategy: strategy, Members: next.wanted, Datacenters: tiers, SlowStart: p.cfg.SlowStart, Turn: &pl.turn,
	})
	made[key] = append(made[key], next)
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
