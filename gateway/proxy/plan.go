package proxy

import (
	"cmp"
	"fmt"
	"slices"
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
	members []member
	// strips are what the members take off paths.
	strips []string
	picker *balance.Picker
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

// memory is what a route keeps from one plan to the next.
type memory struct {
	budget *budget.Budget
	recent *hedge.Quantile
	turn   balance.Turn
}

// plan works out how a route is served.
func (p *Proxy) plan(r *route.Route, f *fleet, kept *memory) *plan {
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
		pl.hedge = hedge.Route{After: o.Hedge, Recent: kept.recent}
	}
	if o.Sticky == tag.StickyCookie {
		pl.cookie = fmt.Sprintf("sluice-%08x", uint32(balance.Hash(pl.name)))
	}
	p.staff(pl, f)
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

// staff finds the route's instances and makes its picker.
func (p *Proxy) staff(pl *plan, f *fleet) {
	var members []balance.Member
	for i := range pl.route.Targets {
		t := &pl.route.Targets[i]
		found, err := f.find(t.Service, t.Instance)
		if err != nil || t.Options.RedirectCode != 0 || t.Share == 0 {
			continue // a share of nothing is a decision of the operator's
		}
		pl.members = append(pl.members, member{
			target: found, wire: p.wire(found, mannerOf(t.Options)), options: t.Options,
			token: fmt.Sprintf("%016x", balance.Hash(found.name())),
		})
		if strip := t.Options.Strip; strip != "" && !slices.Contains(pl.strips, strip) {
			pl.strips = append(pl.strips, strip)
		}
		members = append(members, balance.Member{Endpoint: found.endpoint, Share: t.Share, Limit: cmp.Or(t.Options.MaxConn, p.cfg.MaxConn)})
	}
	tiers := pl.options.Datacenters
	if len(tiers) == 0 && p.cfg.Datacenter != "" {
		tiers = append([]string{p.cfg.Datacenter}, p.cfg.Datacenters...)
	}
	pl.picker = balance.NewPicker(balance.Config{
		Strategy: cmp.Or(pl.options.Strategy, p.cfg.Strategy), Members: members, Datacenters: tiers,
		SlowStart: p.cfg.SlowStart, Turn: &pl.turn,
	})
}

// memoryOf returns what the route remembers.
func (p *Proxy) newMemory() *memory {
	return &memory{budget: budget.New(p.cfg.Budget), recent: hedge.NewQuantile(hedge.Percentile)}
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
