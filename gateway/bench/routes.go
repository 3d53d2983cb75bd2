package main

import (
	"context"
	"fmt"
)

// routeCounts are the sizes of the table that are compared.
func routeCounts() []int { return []int{10, 1_000, 10_000} }

func routesScenario(n int) string { return fmt.Sprintf("%s-%d", scenarioRoutes, n) }

const (
	// routeInstances carry the routes as tags, however many there are: with more
	// instances there would be more pools of connections, and a round would measure
	// how they are filled.
	routeInstances = 4
	// routeWarmUp is how many times the usual warm-up fills them.
	routeWarmUp = 3
	// hitRequests is how many different requests are sent, in turn. They are as many
	// with 10 routes as with 10,000: how many a generator has to send changes what is in
	// the caches of the processor, and so what a request costs.
	hitRequests = 1_000
)

// manyRoutes measures every proxy with every size of table. The sizes take turns as the
// proxies do: on a machine whose speed changes within minutes, rounds of one size after
// rounds of another would compare the minutes.
func (b *bench) manyRoutes(ctx context.Context) error {
	resident := residents{}
	for n := range b.cfg.rounds {
		for _, size := range routeCounts() {
			if err := b.withRoutes(ctx, size, n, resident); err != nil {
				return err
			}
		}
	}
	b.results.Values = append(b.results.Values, resident.values(b.found)...)
	few, many := routesScenario(routeCounts()[0]), routesScenario(routeCounts()[2])
	without, ok := b.results.value(few, sluice, "resident")
	with, also := b.results.value(many, sluice, "resident")
	if ok && also {
		b.results.Values = append(b.results.Values, value{Scenario: many, Peer: sluice, Name: "resident more", Unit: "MB", Value: with.Value - without.Value, Note: "than with 10 routes"})
	}
	return nil
}

// residents are the megabytes of each proxy after each round, by scenario and proxy.
type residents map[[2]string][]float64

// values are the medians, in the order of the scenarios and of the proxies.
func (r residents) values(peers []foundPeer) []value {
	var all []value
	for _, size := range routeCounts() {
		for _, p := range peers {
			if of := r[[2]string{routesScenario(size), p.name}]; len(of) > 0 {
				all = append(all, value{Scenario: routesScenario(size), Peer: p.name, Name: "resident", Unit: "MB", Value: median(of), Note: "after a round"})
			}
		}
	}
	return all
}

// withRoutes starts every proxy with n routes for one round.
func (b *bench) withRoutes(ctx context.Context, n, round int, resident residents) error {
	name, routes := routesScenario(n), makeRoutes(n)
	forget, err := b.registerAll(ctx, inOneService(routes, b.lab.host))
	defer forget()
	if err != nil {
		return err
	}
	targets := hits(routes, hitRequests)
	proxies, err := b.startAll(ctx, name, routes, targets[len(targets)-1], false)
	if err != nil {
		return err
	}
	defer stopAll(proxies)
	for _, p := range proxies {
		if err := b.servesAll(ctx, p, targets); err != nil {
			return err
		}
		warm := b.load(targets)
		warm.Address, warm.Duration = p.plan.listen(), routeWarmUp*b.cfg.warmUp
		if _, err := b.generator.send(ctx, warm); err != nil {
			return err
		}
	}
	if err := b.turn(ctx, name, round, proxies, func(*proxy) loadConfig { return b.load(targets) }); err != nil {
		return err
	}
	for _, p := range proxies {
		m, err := readMemory(p.process.pid())
		if err != nil {
			return err
		}
		key := [2]string{name, p.peer.name}
		resident[key] = append(resident[key], megabytes(m.resident))
	}
	return nil
}

// servesAll waits until every target is served: a proxy that follows a catalog may
// have the last route before the first.
func (b *bench) servesAll(ctx context.Context, p *proxy, targets []hit) error {
	for i := 0; i < len(targets); i += max(1, len(targets)/50) {
		if err := eventually(ctx, fmt.Sprintf("%s serves %s%s", p.peer.name, targets[i].Host, targets[i].Path), p.serves(targets[i])); err != nil {
			return err
		}
	}
	return nil
}

// registerAll registers instances. forget takes them away again, also after an
// interrupt: what is measured next must not find them.
func (b *bench) registerAll(ctx context.Context, all []instance) (forget func(), err error) {
	n := 0
	forget = func() {
		for _, i := range all[:n] {
			_ = b.lab.agent.deregister(context.WithoutCancel(ctx), i.ID)
		}
	}
	for n = range all {
		if err := b.lab.agent.register(ctx, all[n]); err != nil {
			return forget, err
		}
	}
	n = len(all)
	return forget, nil
}

// inOneService are instances of the upstream's service that share the routes.
func inOneService(routes []hostRoute, host string) []instance {
	var all []instance
	for n := range routeInstances {
		all = append(all, routeInstance(n, host, upstreamService, routes[n*len(routes)/routeInstances:(n+1)*len(routes)/routeInstances]))
	}
	return all
}

// inManyServices are instances of as many services, of the same number of routes
// each. The first is the upstream's, which has several instances; of the others there
// is one, and nobody asks them.
func inManyServices(routes []hostRoute, host string, services int) (all []instance, served []hostRoute) {
	served = routes[:len(routes)/services]
	for n := range routeInstances {
		all = append(all, routeInstance(n, host, upstreamService, served))
	}
	for n := 1; n < services; n++ {
		name := fmt.Sprintf("%s-%02d", upstreamService, n)
		all = append(all, routeInstance(routeInstances+n, host, name, routes[n*len(routes)/services:(n+1)*len(routes)/services]))
	}
	return all, served
}

func routeInstance(n int, host, service string, routes []hostRoute) instance {
	i := instance{ID: fmt.Sprintf("bench-routes-%d", n), Name: service, Address: host, Port: mtlsPort, Connect: &native{true}}
	for _, r := range routes {
		i.Tags = append(i.Tags, "urlprefix-"+r.Host+r.Path)
	}
	return i
}
