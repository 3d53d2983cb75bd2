package proxy

import (
	"context"
	"crypto/x509"
	"sync"
	"time"

	"sluice/gateway/route"
	"sluice/gateway/tag"
	"sluice/intentions"
	"sluice/mesh"
)

const (
	// keepGone is how long a route without a healthy instance answers 503
	// before it is forgotten and answers 404.
	keepGone = 10 * time.Minute
	// lookEvery is how often it is looked at what nobody announces: routes to
	// forget, and new credentials.
	lookEvery = time.Second
	// sweepEvery is how often it is looked for connections that are idle for too long.
	sweepEvery = 5 * time.Second
)

// snapshot is one routing table with how its routes are served. It is immutable.
type snapshot struct {
	table *route.Table
	// targets are all instances that routes may name.
	targets []*target
	// names are those of the instances that TCP routes name.
	names map[string]bool
	rules route.Rules
	// replaced is closed once another snapshot is in use.
	replaced chan struct{}
}

// follower makes snapshots. It belongs to Run.
type follower struct {
	*Proxy
	fleet    fleet
	services map[string][]mesh.Instance
	rules    route.Rules
	// added are the instances that rules name, by service.
	added   map[string][]mesh.Instance
	inquiry *inquiry
	// serial, roots and rootIDs are of the credentials that were looked at last.
	serial  string
	roots   *x509.CertPool
	rootIDs []string
	started bool
	// swept is when idle connections were looked at last.
	swept time.Time
	// rulesSeen are the intentions that the timeline told of, once judged is true.
	judged    bool
	rulesSeen intentions.Set
	// registered counts the routes that ask for a service to be registered.
	registered map[Registration]int
	// named counts the routes that name a service.
	named map[string]int
}

// Run follows the catalog, the overrides and the intentions until ctx ends: it
// publishes a new routing table on each change, and drops the idle connections to
// services that may no longer be called.
func (p *Proxy) Run(ctx context.Context) error {
	f := &follower{Proxy: p, inquiry: newInquiry(p), registered: map[Registration]int{}, named: map[string]int{}}
	f.fleet = fleet{proxy: p, crews: map[string]*crew{}}
	defer p.closeAll()
	defer p.dials.end()
	defer p.timeline.end()
	defer func() { p.tellWithheld(p.now(), true) }()
	asking, stop := context.WithCancel(ctx)
	var parts sync.WaitGroup
	parts.Go(func() { f.inquiry.run(asking) })
	parts.Go(func() { p.tidy(asking) })
	defer parts.Wait()
	defer stop()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for heard := time.Now(); ; heard = time.Now() {
		catalog := p.cfg.Catalog.Changed()
		var policy, overrides, credentials <-chan struct{}
		if p.cfg.Policy != nil {
			policy = p.cfg.Policy.Changed()
		}
		if p.cfg.Overrides != nil {
			overrides = p.cfg.Overrides.Changed()
		}
		if traced, ok := p.cfg.Credentials.(TracedCredentials); ok {
			credentials = traced.Changed()
		}
		f.follow(heard)
		f.applyPolicy(heard)
		f.rotate(heard)
		f.sweep(heard)
		p.tellWithheld(p.now(), false)
		select {
		case <-ctx.Done():
			return nil
		case <-catalog:
		case <-overrides:
		case <-policy:
		case <-credentials:
		case <-ticker.C:
		}
	}
}

// follow publishes the table of the newest catalog and overrides, if it differs
// from the one in use. Instances that are still there keep their connections.
func (f *follower) follow(heard time.Time) {
	now, old, began, first := f.now(), f.state.Load(), time.Now(), !f.started
	services := f.cfg.Catalog.Services()
	changed := changedServices(f.services, services)
	f.services = services
	because := cause{heard: heard, changed: changed}
	table, changes := old.table, []route.Change(nil)
	switch {
	case !f.started:
		table, changes = f.begin(now, services)
	case len(changed) > 0 || due(table.Expires(), now):
		table, changes = table.Update(now, changed)
	}
	if f.cfg.Overrides != nil {
		if rules := f.cfg.Overrides.Rules(); rules != f.rules {
			var more []route.Change
			f.rules, because.ruled = rules, true
			table, more = table.WithRules(now, rules)
			changes = append(changes, more...)
			f.added = addedBy(table, rules, services)
			changed = services // any of them may have gained or lost an instance
		}
	}
	if table != old.table {
		came, gone := f.publish(now, table, changes, f.touched(changed))
		f.metrics.build.Observe(time.Since(began).Seconds())
		f.tell(old.table, changes, because)
		if !first {
			f.tellHealth(came, gone, because)
		}
	}
}

func due(when, now time.Time) bool { return !when.IsZero() && !when.After(now) }

// begin makes the first table; all its routes are changes.
func (f *follower) begin(now time.Time, services map[string][]mesh.Instance) (*route.Table, []route.Change) {
	f.started = true
	table := route.New(route.Config{
		Prefix: f.cfg.Prefix, Datacenter: f.cfg.Datacenter, Match: f.cfg.Match, Services: services, Check: f.cfg.supported, Admit: admit, Keep: keepGone, Now: now,
	})
	changes := make([]route.Change, 0, table.Len())
	for _, r := range table.Routes() {
		changes = append(changes, route.Change{After: r})
	}
	return table, changes
}

// changedServices returns what is not the same list of instances any more.
func changedServices(old, services map[string][]mesh.Instance) map[string][]mesh.Instance {
	changed := map[string][]mesh.Instance{}
	for name, instances := range services {
		before := old[name]
		if len(before) != len(instances) || len(instances) > 0 && &before[0] != &instances[0] {
			changed[name] = instances
		}
	}
	for name := range old {
		if _, ok := services[name]; !ok {
			changed[name] = nil
		}
	}
	return changed
}

// addedBy returns the instances that rules add to the catalog's, by service.
func addedBy(table *route.Table, rules route.Rules, services map[string][]mesh.Instance) map[string][]mesh.Instance {
	added := map[string][]mesh.Instance{}
	if rules == nil || len(rules.Added()) == 0 {
		return added
	}
	seen := map[targetKey]bool{}
	for name, instances := range services {
		for i := range instances {
			if instances[i].ID.IsZero() {
				seen[keyOf(name, &instances[i])] = true // the catalog says when it is gone
			}
		}
	}
	for _, r := range table.Routes() {
		for i := range r.Targets {
			t := &r.Targets[i]
			key := keyOf(t.Service, t.Instance)
			if t.Instance.ID.IsZero() && !seen[key] {
				seen[key] = true
				added[t.Service] = append(added[t.Service], *t.Instance)
			}
		}
	}
	return added
}

// touched are the services whose instances have to be looked at again.
func (f *follower) touched(changed map[string][]mesh.Instance) []string {
	names := map[string]bool{}
	for name := range changed {
		names[name] = true
	}
	for name := range f.added {
		names[name] = true
	}
	for name := range f.fleet.crews {
		if _, known := f.services[name]; !known {
			names[name] = true
		}
	}
	list := make([]string, 0, len(names))
	for name := range names {
		list = append(list, name)
	}
	return list
}

// publish makes the plans of what changed and puts the new table in use. Who is
// gone from the catalog is let go of only then, so that at no moment a request
// finds nobody. It returns who is new, and who is gone.
func (f *follower) publish(now time.Time, table *route.Table, changes []route.Change, services []string) (came, gone []*target) {
	old := f.state.Load()
	for _, name := range services {
		came = append(came, f.fleet.join(now, name, f.services[name], f.added[name])...)
	}
	next := &snapshot{table: table, names: old.names, rules: f.rules, replaced: make(chan struct{})}
	streams := false
	shared := newMade()
	for _, c := range changes {
		streams = streams || c.Before != nil && c.Before.Kind != tag.HTTP
		if c.After != nil {
			streams = streams || c.After.Kind != tag.HTTP
			c.After.Use = f.planAfter(c, shared)
		}
	}
	for _, c := range f.fleet.crews {
		for _, t := range c.targets {
			next.targets = append(next.targets, t)
		}
	}
	if streams {
		next.names = streamNames(table)
	}
	f.state.Store(next)
	close(old.replaced)
	f.cutStreams(next)
	for _, name := range services {
		gone = append(gone, f.fleet.leave(now, name)...)
		if counts, ok := f.cfg.Dialer.(forgetter); ok && f.fleet.crews[name] == nil {
			counts.Forget(name)
		}
	}
	for _, t := range gone {
		for _, w := range t.wires {
			w.end()
		}
	}
	f.register(changes)
	f.count(changes)
	f.report(old.table, next.table)
	return came, gone
}

// streamNames are the instances of TCP routes.
func streamNames(table *route.Table) map[string]bool {
	names := map[string]bool{}
	for _, r := range table.Routes() {
		if r.Kind == tag.HTTP {
			continue
		}
		pl := planOf(r)
		for i := range pl.members {
			names[pl.members[i].target.name()] = true
		}
	}
	return names
}

// report counts and logs the tags that are ignored, each once.
func (p *Proxy) report(old, next *route.Table) {
	problems := next.Problems()
	p.metrics.routes.Set(float64(next.Len()))
	p.metrics.quarantined.Set(float64(len(problems)))
	if len(problems) == 0 {
		return
	}
	known := map[route.Problem]bool{}
	for _, problem := range old.Problems() {
		known[problem] = true
	}
	for _, problem := range problems {
		if !known[problem] {
			p.metrics.ignoredTags.Inc()
			p.log.Warn("ignoring a route tag", "service", problem.Service, "instance", problem.Node, "tag", problem.Tag, "reason", problem.Reason)
		}
	}
}

// applyPolicy closes idle connections to services that may not be called.
// Connections in use are the mesh dialer's to cut.
func (f *follower) applyPolicy(heard time.Time) {
	if f.cfg.Policy != nil {
		if policy, known := f.cfg.Policy.Policy(); known && (!f.judged || !policy.Set.Equal(f.rulesSeen)) {
			f.tellPolicy(policy, heard)
			f.judged, f.rulesSeen = true, policy.Set
		}
	}
	for name, c := range f.fleet.crews {
		if decision, known := f.decide(name); !known || decision.Allowed {
			continue
		}
		for _, t := range c.targets {
			for m, w := range t.wires {
				if !m.plain {
					w.closeIdle()
				}
			}
		}
	}
}

// decide returns the verdict on calling service by the newest snapshot; false
// means that there is none.
func (p *Proxy) decide(service string) (intentions.Decision, bool) {
	if p.cfg.Policy == nil {
		return intentions.Decision{}, false
	}
	policy, ok := p.cfg.Policy.Policy()
	if !ok {
		return intentions.Decision{}, false
	}
	return policy.Set.Decide(p.cfg.Source, service), true
}

// denied returns the refusal that our own snapshot holds, or nil.
func (p *Proxy) denied(service string) error {
	if p.cfg.Policy == nil {
		return nil
	}
	policy, known := p.cfg.Policy.Policy()
	if !known || policy.Set.Allows(p.cfg.Source, service) {
		return nil
	}
	return &mesh.DeniedError{Decision: policy.Set.Decide(p.cfg.Source, service), By: mesh.BySource}
}

func (p *Proxy) closeAll() {
	for _, t := range p.state.Load().targets {
		for _, w := range t.wires {
			w.closeIdle()
		}
	}
}
