package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// The scenarios' names, as samples and values have them.
const (
	scenarioMTLS      = "mtls"
	scenarioPlain     = "plain"
	scenarioHandshake = "handshake"
	scenarioRoutes    = "routes"
	scenarioChanges   = "changes"
	scenarioRate      = "rate"
	scenarioIdle      = "idle"
	scenarioRestart   = "restart"
	scenarioEffect    = "effect"
)

// scenario is one part of the bench.
type scenario struct {
	name, what string
	// title and explains are what the page says above the table.
	title, explains string
	// samples are the names under which results are kept.
	samples []string
	run     func(*bench, context.Context) error
}

// scenarios come in the order in which they run: rate needs what the keep-alive
// ones have found.
func scenarios() []scenario {
	var routes []string
	for _, n := range routeCounts() {
		routes = append(routes, routesScenario(n))
	}
	return []scenario{
		{
			scenarioPlain, "plain in, plain out, keep-alive", "Plain to plain, keep-alive", "Answers of 1 KiB.",
			[]string{scenarioPlain},
			func(b *bench, ctx context.Context) error { return b.closedLoop(ctx, scenarioPlain, plainPath) },
		},
		{
			scenarioMTLS, "plain in, mutual TLS out, keep-alive", "Plain to mutual TLS, keep-alive", "The same over Connect's mutual TLS to a Connect-native service.",
			[]string{scenarioMTLS},
			func(b *bench, ctx context.Context) error { return b.closedLoop(ctx, scenarioMTLS, keepPath) },
		},
		{
			scenarioHandshake, "plain in, a new mutual TLS connection for each request out", "A new mutual TLS handshake for each request",
			"The upstream ends each connection after one answer and takes no session back.",
			[]string{scenarioHandshake},
			func(b *bench, ctx context.Context) error { return b.closedLoop(ctx, scenarioHandshake, closePath) },
		},
		{
			scenarioRoutes, "10, 1,000 and 10,000 routes", "Many routes", "5 routes on each host, every tenth host a wildcard, 1,000 different requests in turn, spread over the routes. The sizes take turns, round by round. Mutual TLS for sluice, plain for the others, so compare each with itself.",
			routes, (*bench).manyRoutes,
		},
		{
			scenarioChanges, "one of 10,000 routes changes", "One of many routes changes",
			"At half the rate that the gateway can do, with and without changes of one route, 5 times a second. All routes are the tags of four instances of one service, which Consul tells again with each change, or of 100 services. The control is nginx with the same routes, which does not look at Consul: once while the gateway is paused and nobody asks Consul, and once while a gateway that gets no requests follows the changes beside it. Medians of the rounds.",
			layoutNames(), (*bench).routesThatChange,
		},
		{
			scenarioRate, "latency at a constant rate", "Latency at a constant rate", "Requests are due at fixed times, and late ones count from when they were due. Over mutual TLS, plain for a proxy without Connect.",
			[]string{scenarioRate},
			(*bench).constantRate,
		},
		{
			scenarioIdle, "memory with idle client connections", "Idle client connections", "Memory of all processes of the proxy before, and with that many client connections of which each had one answer, 10 s after the last.",
			[]string{scenarioIdle},
			(*bench).idleConnections,
		},
		{
			scenarioRestart, "rolling restarts under load", "Rolling restarts", "Three Connect-native instances are stopped (SIGTERM) and started one after the other, over and over, under 1,000 requests a second.",
			[]string{scenarioRestart},
			(*bench).rollingRestarts,
		},
		{
			scenarioEffect, "from a change to its effect", "From a change to its effect", "From before the write to Consul's agent is sent until the first answer that shows it, asked for each millisecond.",
			[]string{scenarioEffect},
			(*bench).changesToEffect,
		},
	}
}

// sampleNames are those of the chosen scenarios.
func (cfg config) sampleNames() []string {
	var names []string
	for _, s := range scenarios() {
		if wants(cfg.scenarios, s.name) {
			names = append(names, s.samples...)
		}
	}
	return names
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

// startAll starts every peer that can serve the path, and records why another
// does not. The caller stops them.
func (b *bench) startAll(ctx context.Context, name string, routes []hostRoute, h hit, connect bool) ([]*proxy, error) {
	var started []*proxy
	for _, p := range b.found {
		if routes != nil && p.brief || p.only != "" && p.only != name {
			continue
		}
		if connect && !p.connect {
			b.results.refuse(name, p.name, "no Connect: it cannot present a client certificate")
			continue
		}
		if h.Path == plainPath && p.ours && !slices.Contains(b.cfg.gatewayArgs, allowPlain) {
			b.results.refuse(name, p.name, "not served: this gateway has no "+allowPlain)
			continue
		}
		proxy, err := b.start(ctx, p, name, routes, h)
		switch {
		case ctx.Err() != nil:
			stopAll(append(started, proxy))
			return nil, ctx.Err()
		case err != nil:
			b.say("%s does not serve %s: %v", p.name, name, err)
			b.results.refuse(name, p.name, "not served: "+oneLine(err))
		default:
			started = append(started, proxy)
		}
	}
	return started, nil
}

func stopAll(proxies []*proxy) {
	for _, p := range proxies {
		if p != nil {
			p.stop()
		}
	}
}

// closedLoop measures every proxy at the rate that it can do.
func (b *bench) closedLoop(ctx context.Context, name, path string) error {
	h := hit{"bench.test", path}
	proxies, err := b.startAll(ctx, name, nil, h, path != plainPath)
	if err != nil {
		return err
	}
	defer stopAll(proxies)
	return b.rounds(ctx, name, proxies, func(*proxy) loadConfig { return b.load([]hit{h}) })
}

func (b *bench) load(hits []hit) loadConfig {
	return loadConfig{Hits: hits, Connections: b.cfg.connections, Duration: b.cfg.round}
}

// rounds measures the proxies in turn, A B C A B C.
func (b *bench) rounds(ctx context.Context, name string, proxies []*proxy, load func(*proxy) loadConfig) error {
	for n := range b.cfg.rounds {
		if err := b.turn(ctx, name, n, proxies, load); err != nil {
			return err
		}
	}
	return nil
}

// turn is one round of each proxy; n counts from 0. A proxy that fails gets a row that
// says so.
func (b *bench) turn(ctx context.Context, name string, n int, proxies []*proxy, load func(*proxy) loadConfig) error {
	for _, p := range proxies {
		cfg := load(p)
		cfg.Address = p.plan.listen()
		s, err := b.round(ctx, p, cfg)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.say("%s: %v", p.peer.name, err)
			b.results.refuse(name, p.peer.name, "failed: "+oneLine(err))
			continue
		}
		s.Scenario, s.Round = name, n+1
		b.results.Samples = append(b.results.Samples, s)
		b.say("%-14s %-14s round %d  %7.1f µs CPU  %8.0f requests/s  p50 %6.0f  p99 %7.0f µs  failed %d %s  others %.0f %% steal %.0f %%",
			name, p.peer.name, n+1, s.CPU, s.Rate, s.P50, s.P99, s.Failed, s.Reason, s.Others, s.Steal)
	}
	return nil
}

// constantRate measures latency at a rate that every proxy can do.
func (b *bench) constantRate(ctx context.Context) error {
	perSecond, why := b.rate()
	if perSecond == 0 {
		for _, p := range b.found {
			b.results.refuse(scenarioRate, p.name, why)
		}
		return nil
	}
	b.say("%.0f requests/s: %s", perSecond, why)
	var proxies []*proxy
	defer func() { stopAll(proxies) }()
	for _, p := range b.found {
		if p.brief {
			continue
		}
		path := keepPath
		if !p.connect {
			path = plainPath
		}
		proxy, err := b.start(ctx, p, scenarioRate, nil, hit{"bench.test", path})
		if ctx.Err() != nil {
			stopAll(append(proxies, proxy))
			return ctx.Err()
		}
		if err != nil {
			b.results.refuse(scenarioRate, p.name, "not served: "+oneLine(err))
			continue
		}
		proxies = append(proxies, proxy)
		if p.name != sluice {
			continue
		}
		b.results.Values = append(b.results.Values, value{Scenario: scenarioRate, Peer: p.name, Name: "rate", Unit: "requests/s", Value: perSecond, Note: why})
	}
	return b.rounds(ctx, scenarioRate, proxies, func(p *proxy) loadConfig {
		cfg := b.load([]hit{{"bench.test", keepPath}})
		if !p.peer.connect {
			cfg.Hits[0].Path = plainPath
		}
		cfg.Rate = perSecond
		return cfg
	})
}

// rate returns 70 % of Fabio's best rate, repaired if that was measured; without
// Fabio, of the slowest proxy's over mutual TLS. The text says which.
func (b *bench) rate() (perSecond float64, why string) {
	if b.cfg.rate > 0 {
		return b.cfg.rate, "as asked for"
	}
	const part = .7
	for _, name := range []string{fabioRepaired, fabio} {
		if best, ok := b.results.median(scenarioPlain, name, rate); ok {
			return part * best, "70 % of the best rate of " + name
		}
	}
	slowest, name := math.Inf(1), ""
	for _, p := range b.found {
		if best, ok := b.results.median(scenarioMTLS, p.name, rate); ok && best < slowest {
			slowest, name = best, p.name
		}
	}
	if name == "" {
		return 0, "no rate: give -rate, or measure plain or mtls in the same run"
	}
	return part * slowest, "70 % of the best rate of " + name + ", the slowest here, in place of Fabio's"
}

// register puts the three paths into the catalog, for a proxy that reads it.
func (b *bench) register(ctx context.Context) error {
	for _, p := range backendPaths() {
		i := instance{
			ID: "bench-" + p.name, Name: upstreamService, Address: b.lab.host, Port: p.port,
			Tags: []string{"urlprefix-" + p.path},
		}
		if p.tls {
			i.Connect = &native{true}
		} else {
			i.Name = upstreamService + "-plain"
			i.Tags[0] += " plain=true"
		}
		if err := b.lab.agent.register(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// idleFor is how long connections are idle before memory is read.
const idleFor = 10 * time.Second

// idleConnections measures memory before and with idle client connections.
func (b *bench) idleConnections(ctx context.Context) error {
	for _, p := range b.found {
		if p.brief {
			continue
		}
		if err := b.idleOf(ctx, p); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			b.say("%s: %v", p.name, err)
			b.results.refuse(scenarioIdle, p.name, "not served: "+oneLine(err))
		}
	}
	return nil
}

func (b *bench) idleOf(ctx context.Context, p foundPeer) error {
	h := hit{"bench.test", keepPath}
	if !p.connect {
		h.Path = plainPath
	}
	proxy, err := b.start(ctx, p, scenarioIdle, nil, h)
	if err != nil {
		return err
	}
	defer proxy.stop()
	before, err := readMemory(proxy.process.pid())
	if err != nil {
		return err
	}
	open, err := openIdle(b.lab, loadConfig{Address: proxy.plan.listen(), Hits: []hit{h}, Connections: b.cfg.idle, Idle: true})
	if err != nil {
		return err
	}
	defer open.stop()
	if err := open.opened(ctx); err != nil {
		return err
	}
	select { // a connection is not idle in the moment after its answer
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(idleFor):
	}
	with, err := readMemory(proxy.process.pid())
	if err != nil {
		return err
	}
	left, err := open.close(ctx)
	if err != nil {
		return err
	}
	if left < b.cfg.idle {
		return fmt.Errorf("of %d idle connections %d were left when memory was read", b.cfg.idle, left)
	}
	note := fmt.Sprintf("%d connections; %s MB before them", b.cfg.idle, number(megabytes(before.resident)))
	b.results.Values = append(b.results.Values,
		value{Scenario: scenarioIdle, Peer: p.name, Name: "resident", Unit: "MB", Value: megabytes(with.resident), Note: note, Of: b.cfg.idle},
		value{Scenario: scenarioIdle, Peer: p.name, Name: "proportional", Unit: "MB", Value: megabytes(with.proportional)},
	)
	b.say("%s: %s MB resident, %s", p.name, number(megabytes(with.resident)), note)
	return nil
}

func megabytes(bytes int64) float64 { return float64(bytes) / 1e6 }

// eventually is await with our usual patience.
func eventually(ctx context.Context, what string, holds func(context.Context) error) error {
	return await(ctx, patience, what, holds)
}
