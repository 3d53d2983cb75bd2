package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

const (
	effectService = "effect"
	effectHost    = "bench.test"
	effectPath    = "/effect"
	effectPort    = 8700
	effectCheck   = "effect-check"
	// effectEvery is how often the proxy is asked whether a change is there.
	effectEvery = time.Millisecond
)

// change is one thing that is switched to and fro.
type change struct {
	kind string
	// host is asked.
	host string
	// there and back make the change n; the answer of the proxy at path(n) must then
	// be served, or not.
	there, back      func(ctx context.Context, n int) error
	path             func(n int) string
	served, unserved func(status int) bool
}

func changeKinds() []string { return []string{"tag", "health", "intention"} }

// changesToEffect times changes of a tag, of health and of an intention.
func (b *bench) changesToEffect(ctx context.Context) error {
	if err := b.lab.agent.intend(ctx, effectService, "allow"); err != nil {
		return err
	}
	upstream, err := b.lab.startUpstream(ctx, upstreamConfig{service: effectService, instance: effectService, mtls: effectPort})
	if err != nil {
		return err
	}
	defer upstream.stop(grace)
	for _, p := range b.found {
		if p.brief {
			continue
		}
		if p.name != sluice {
			b.results.refuse(scenarioEffect, p.name, "not run: its configuration here is a file, and follows no change")
			continue
		}
		if err := b.effectsOn(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) effectsOn(ctx context.Context, p foundPeer) error {
	if err := b.lab.agent.register(ctx, b.effectInstance("urlprefix-"+effectPath)); err != nil {
		return err
	}
	proxy, err := b.start(ctx, p, scenarioEffect, nil, hit{effectHost, effectPath})
	if err != nil {
		return err
	}
	defer proxy.stop()
	for _, c := range b.changes() {
		var there, back []float64
		for n := range b.cfg.changes {
			took, err := c.time(ctx, proxy, n, c.there, c.unserved)
			if err != nil {
				return fmt.Errorf("%s, change %d: %w", c.kind, n+1, err)
			}
			there = append(there, took)
			if took, err = c.time(ctx, proxy, n, c.back, c.served); err != nil {
				return fmt.Errorf("%s, change %d back: %w", c.kind, n+1, err)
			}
			back = append(back, took)
		}
		b.record(p.name, c.kind, there, back)
	}
	return nil
}

// record keeps the quantiles of both directions together: a bar holds for either.
func (b *bench) record(peer, kind string, there, back []float64) {
	slices.Sort(there)
	slices.Sort(back)
	all := slices.Sorted(slices.Values(slices.Concat(there, back)))
	worst, _ := quantile(all, .99)
	middle, _ := quantile(all, .5)
	longest, _ := quantile(all, 1)
	thereWorst, _ := quantile(there, .99)
	backWorst, _ := quantile(back, .99)
	b.results.Values = append(b.results.Values,
		value{Scenario: scenarioEffect, Peer: peer, Name: kind + " p99", Unit: "ms", Value: worst, Note: fmt.Sprintf("%d changes; p99 taken away %s, given back %s; longest %s", len(all), number(thereWorst), number(backWorst), number(longest))},
		value{Scenario: scenarioEffect, Peer: peer, Name: kind + " p50", Unit: "ms", Value: middle},
	)
	b.say("%s: %s p50 %s ms, p99 %s ms", peer, kind, number(middle), number(worst))
}

// time makes one change and returns the milliseconds until it shows.
func (c change) time(ctx context.Context, p *proxy, n int, do func(context.Context, int) error, shows func(int) bool) (float64, error) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begin := time.Now()
	if err := do(ctx, n); err != nil {
		return 0, err
	}
	ticker := time.NewTicker(effectEvery)
	defer ticker.Stop()
	for {
		status, _, _, err := ask(ctx, transport, p.plan.listen(), hit{c.host, c.path(n)})
		if err == nil && shows(status) {
			return float64(time.Since(begin).Microseconds()) / 1000, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("no effect within %v: it answers %d, %v", patience, status, err)
		case <-ticker.C:
		}
	}
}

func (b *bench) effectInstance(tags ...string) instance {
	return instance{
		ID: effectService, Name: effectService, Address: b.lab.host, Port: effectPort, Tags: tags, Connect: &native{true},
		Check: &check{CheckID: effectCheck, TTL: "1h", Status: "passing"},
	}
}

// changes are what is timed. A tag is taken away and given back; an instance, the
// only one, fails and recovers; an intention denies and allows.
func (b *bench) changes() []change {
	served := func(status int) bool { return status == http.StatusOK }
	unserved := func(status int) bool { return status != http.StatusOK }
	same := func(int) string { return effectPath }
	register := func(tags ...string) func(context.Context, int) error {
		return func(ctx context.Context, _ int) error { return b.lab.agent.register(ctx, b.effectInstance(tags...)) }
	}
	report := func(state string) func(context.Context, int) error {
		return func(ctx context.Context, _ int) error { return b.lab.agent.report(ctx, effectCheck, state) }
	}
	intend := func(action string) func(context.Context, int) error {
		return func(ctx context.Context, _ int) error { return b.lab.agent.intend(ctx, effectService, action) }
	}
	return []change{
		{"tag", effectHost, register("urlprefix-/other"), register("urlprefix-" + effectPath), same, served, unserved},
		{"health", effectHost, report("fail"), report("pass"), same, served, unserved},
		{"intention", effectHost, intend("deny"), intend("allow"), same, served, func(status int) bool { return status == http.StatusForbidden }},
	}
}
