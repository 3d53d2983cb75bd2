package proxy

import (
	"context"
	"fmt"
	"time"

	"sluice/gateway/route"
	"sluice/gateway/tag"
	"sluice/intentions"
	"sluice/mesh"
)

// Run follows the catalog and the intentions until ctx ends: it publishes a new
// routing table on each change of the catalog and drops the keep-alive pools of
// services that may no longer be called.
func (p *Proxy) Run(ctx context.Context) error {
	defer p.closeAll()
	ticker := time.NewTicker(rebuildEvery)
	defer ticker.Stop()
	for {
		catalog := p.cfg.Catalog.Changed()
		var policy <-chan struct{}
		if p.cfg.Policy != nil {
			policy = p.cfg.Policy.Changed()
		}
		p.rebuild()
		p.applyPolicy()
		select {
		case <-ctx.Done():
			return nil
		case <-catalog:
		case <-policy:
		case <-ticker.C:
		}
	}
}

// rebuild publishes the table of the newest catalog. Instances that are still
// there keep their pools.
func (p *Proxy) rebuild() {
	old := p.state.Load()
	next := &snapshot{
		table: route.New(route.Config{
			Prefix: p.cfg.Prefix, Services: p.cfg.Catalog.Services(), Check: supported,
			Previous: old.table, Keep: keepGone, Now: p.now(),
		}),
		targets: map[targetKey]*target{},
	}
	for _, r := range next.table.Routes() {
		for _, instance := range r.Instances {
			key := keyOf(instance)
			if next.targets[key] != nil {
				continue
			}
			next.targets[key] = old.targets[key]
			if next.targets[key] == nil {
				next.targets[key] = newTarget(instance, p.cfg.Dialer, p.cfg.ResponseHeaderTimeout)
			}
		}
	}
	p.state.Store(next)
	for key, t := range old.targets {
		if next.targets[key] == nil {
			t.transport.CloseIdleConnections()
		}
	}
	p.report(old.table, next.table)
}

// supported refuses what the proxy would not do for a route.
func supported(r tag.Route) error {
	if options := r.Options.String(); options != "" {
		return fmt.Errorf("parse route: option %q is not supported", options)
	}
	return nil
}

// report counts and logs the tags that are ignored, each once.
func (p *Proxy) report(old, next *route.Table) {
	known := map[route.Problem]bool{}
	for _, problem := range old.Problems() {
		known[problem] = true
	}
	for _, problem := range next.Problems() {
		if !known[problem] {
			p.metrics.ignoredTags.Inc()
			p.log.Warn("ignoring a route tag", "service", problem.Service, "instance", problem.Node, "tag", problem.Tag, "reason", problem.Reason)
		}
	}
	p.metrics.routes.Set(float64(len(next.Routes())))
}

// applyPolicy closes idle connections to services that may not be called, and
// forgets the failures of those that may: what failed under another verdict says
// nothing about health. Connections in use are the mesh dialer's to cut.
func (p *Proxy) applyPolicy() {
	for _, t := range p.state.Load().targets {
		decision, known := p.decide(t.service())
		switch {
		case known && !decision.Allowed:
			t.transport.CloseIdleConnections()
		case known:
			t.trust()
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
	decision, known := p.decide(service)
	if !known || decision.Allowed {
		return nil
	}
	return &mesh.DeniedError{Decision: decision, By: mesh.BySource}
}

func (p *Proxy) closeAll() {
	for _, t := range p.state.Load().targets {
		t.transport.CloseIdleConnections()
	}
}
