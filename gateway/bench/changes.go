package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

const (
	// changeEvery is how often a route changes.
	changeEvery = 200 * time.Millisecond
	// manyServices is how many services the routes are spread over in one layout.
	manyServices = 100
	// timedChanges is how many changes are timed until their effect, without load.
	timedChanges = 100
	changeHost   = "change.bench.test"
)

// layout is a way in which services declare routes.
type layout struct {
	name, what string
	// instances are what is registered, served are the routes that requests are for.
	instances []instance
	served    []hostRoute
}

// The layouts' names, as samples and values have them.
const (
	layoutFew  = "changes-10"
	layoutOne  = "changes-10000-in-1"
	layoutMany = "changes-10000-in-100"
)

func layoutNames() []string { return []string{layoutFew, layoutOne, layoutMany} }

func (b *bench) layouts() []layout {
	few, routes := makeRoutes(routeCounts()[0]), makeRoutes(routeCounts()[2])
	many, served := inManyServices(routes, b.lab.host, manyServices)
	return []layout{
		{layoutFew, "10 routes of one service", inOneService(few, b.lab.host), few},
		{layoutOne, "10,000 routes of one service", inOneService(routes, b.lab.host), routes},
		{layoutMany, "10,000 routes of 100 services", many, served},
	}
}

// routesThatChange measures what a change of one route costs with every layout, the
// gateway and, as a control, a proxy that does not look at Consul.
func (b *bench) routesThatChange(ctx context.Context) error {
	for _, l := range b.layouts() {
		if err := b.inLayout(ctx, l); err != nil {
			return err
		}
	}
	few, ok := b.results.value(layoutFew, sluice, "resident")
	for _, name := range []string{layoutOne, layoutMany} {
		if with, also := b.results.value(name, sluice, "resident"); ok && also {
			b.keep(value{Scenario: name, Peer: sluice, Name: "resident more", Unit: "MB", Value: with.Value - few.Value, Note: "than with 10 routes"})
		}
	}
	return nil
}

func (b *bench) keep(v value) {
	b.results.Values = append(b.results.Values, v)
	b.say("%s: %s %s %s %s, %s", v.Scenario, v.Peer, v.Name, number(v.Value), v.Unit, v.Note)
}

func (b *bench) inLayout(ctx context.Context, l layout) error {
	forget, err := b.registerAll(ctx, l.instances)
	defer forget()
	if err != nil {
		return err
	}
	targets := hits(l.served, hitRequests)
	ours, control, err := b.startBoth(ctx, l, targets)
	defer stopAll([]*proxy{ours, control})
	if err != nil || ours == nil {
		return err
	}
	perSecond, err := b.fullRate(ctx, ours, targets)
	if err != nil {
		return err
	}
	m, err := readMemory(ours.process.pid())
	if err != nil {
		return err
	}
	b.keep(value{Scenario: l.name, Peer: sluice, Name: "resident", Unit: "MB", Value: megabytes(m.resident), Note: fmt.Sprintf("after %.0f requests/s", perSecond)})
	if l.name == layoutFew {
		return nil
	}
	cfg := b.load(targets)
	cfg.Rate = perSecond / 2
	c := changing{bench: b, layout: l.name, load: cfg, ours: ours, control: control}
	for range b.cfg.rounds {
		if err := c.round(ctx); err != nil {
			return err
		}
	}
	c.report()
	return b.untilServed(ctx, ours, l.name)
}

// startBoth starts the gateway and the control, which may be missing, with all routes
// of a layout.
func (b *bench) startBoth(ctx context.Context, l layout, targets []hit) (ours, control *proxy, err error) {
	for _, p := range b.found {
		if p.name != sluice && p.name != nginx {
			continue
		}
		started, err := b.start(ctx, p, l.name, b.allRoutes(l), targets[len(targets)-1])
		if err == nil {
			err = b.servesAll(ctx, started, targets)
		}
		if p.name == sluice {
			ours = started
		} else {
			control = started
		}
		if err != nil {
			return ours, control, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return ours, control, nil
}

func (b *bench) allRoutes(l layout) []hostRoute {
	if l.name == layoutFew {
		return makeRoutes(routeCounts()[0])
	}
	return makeRoutes(routeCounts()[2])
}

// fullRate is how many requests a second a proxy can do, after a warm-up.
func (b *bench) fullRate(ctx context.Context, p *proxy, targets []hit) (float64, error) {
	cfg := b.load(targets)
	cfg.Address, cfg.Duration = p.plan.listen(), routeWarmUp*b.cfg.warmUp
	if cfg.Duration > 0 {
		if _, err := b.generator.send(ctx, cfg); err != nil {
			return 0, err
		}
	}
	cfg.Duration = b.cfg.round
	found, err := b.round(ctx, p, cfg)
	return found.Rate, err
}

// changing are rounds at a constant rate, with and without changes.
type changing struct {
	*bench
	layout        string
	load          loadConfig
	ours, control *proxy

	// p99 of each kind of round, in microseconds.
	still, moving, controlStill, controlAlone, controlBeside []float64
	// CPU of a change, in milliseconds: of Consul while nobody asks it and while the
	// gateway does, and of a gateway that has no requests.
	consulAlone, consulBeside, gateway []float64
	rebuilt                            rebuildTimes
	// disturbed is true once a round stayed disturbed however often it was repeated,
	// failed counts requests.
	disturbed bool
	failed    int64
}

// round measures each kind once, one after the other.
func (c *changing) round(ctx context.Context) (err error) {
	add := func(to *[]float64, p *proxy, changes bool) {
		if err == nil {
			var found spent
			found, err = c.send(ctx, p, changes)
			*to = append(*to, found.p99)
			switch to {
			case &c.controlAlone:
				c.consulAlone = append(c.consulAlone, found.consul)
			case &c.controlBeside:
				c.consulBeside, c.gateway = append(c.consulBeside, found.consul), append(c.gateway, found.gateway)
			}
		}
	}
	add(&c.still, c.ours, false)
	before := rebuilds(ctx, c.ours.plan.adminAddress())
	add(&c.moving, c.ours, true)
	after := rebuilds(ctx, c.ours.plan.adminAddress())
	c.rebuilt.seconds += after.seconds - before.seconds
	c.rebuilt.count += after.count - before.count
	if c.control == nil {
		return err
	}
	add(&c.controlStill, c.control, false)
	add(&c.controlBeside, c.control, true)
	c.ours.process.pause()
	defer c.ours.process.resume()
	add(&c.controlAlone, c.control, true)
	return err
}

// spent is what one round cost: p99 in microseconds, CPU of a change in milliseconds.
type spent struct {
	p99, consul, gateway float64
	// disturbance is the part of the machine, in percent, that others had.
	disturbance float64
}

// send measures one round, and repeats it as long as others disturbed it.
func (c *changing) send(ctx context.Context, p *proxy, changes bool) (least spent, err error) {
	for n := range c.cfg.repeats + 1 {
		found, err := c.once(ctx, p, changes)
		if err != nil {
			return spent{}, err
		}
		if n == 0 || found.disturbance < least.disturbance {
			least = found
		}
		if least.disturbance <= c.cfg.disturbance {
			break
		}
		c.say("%s: others had %.0f %% of the machine", p.peer.name, found.disturbance)
	}
	c.disturbed = c.disturbed || least.disturbance > c.cfg.disturbance
	return least, nil
}

func (c *changing) once(ctx context.Context, p *proxy, changes bool) (spent, error) {
	cfg := c.load
	cfg.Address = p.plan.listen()
	count := 1
	if changes {
		count = int(cfg.Duration / changeEvery)
		changing, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.changeRoutes(changing)
		}()
		defer func() {
			stop()
			<-ended
		}()
	}
	before, machineBefore, err := c.look(p)
	if err != nil {
		return spent{}, err
	}
	result, err := c.generator.send(ctx, cfg)
	if err != nil {
		return spent{}, err
	}
	after, machineAfter, err := c.look(p)
	if err != nil {
		return spent{}, err
	}
	if result.Failed+result.Late > 0 {
		c.say("%s: %d failed, %d late: %s", p.peer.name, result.Failed, result.Late, result.Reason)
		c.failed += result.Failed + result.Late
	}
	each := func(pid int) float64 {
		return float64(used(after, pid)-used(before, pid)) * microsPerTick / 1000 / float64(count)
	}
	others, steal := interference(machineBefore, machineAfter)
	return spent{result.P99, each(c.lab.consul.pid()), each(c.ours.process.pid()), max(others, steal)}, nil
}

func (c *changing) look(p *proxy) (map[int]times, snapshot, error) {
	s, err := takeSnapshot(p.process.pid())
	if err != nil {
		return nil, s, err
	}
	table, err := processTable()
	return table, s, err
}

func (c *changing) report() {
	ratio := func(peer, name, what string, still, moving []float64) {
		if len(moving) == 0 {
			return
		}
		was, is := median(still), median(moving)
		if c.disturbed {
			what += "; disturbed"
		}
		if c.failed > 0 {
			what += fmt.Sprintf("; %d requests failed", c.failed)
		}
		note := fmt.Sprintf("%s; at %.0f requests/s, p99 %.0f µs and %.0f µs", what, c.load.Rate, was, is)
		c.keep(value{Scenario: c.layout, Peer: peer, Name: name, Unit: "×", Value: is / max(1, was), Note: note})
	}
	ratio(sluice, "p99 ratio", "while one route changes 5 times a second, against standing still", c.still, c.moving)
	ratio(nginx, "p99 ratio", "the control: the same changes, while nobody asks Consul", c.controlStill, c.controlAlone)
	ratio(nginx, "p99 ratio beside", "the control: the same changes, while a gateway without requests follows them", c.controlStill, c.controlBeside)
	ours := func(name string, ms float64, note string) {
		c.keep(value{Scenario: c.layout, Peer: sluice, Name: name, Unit: "ms", Value: ms, Note: note})
	}
	if len(c.consulBeside) > 0 {
		ours("Consul's CPU", median(c.consulBeside), fmt.Sprintf("of a change; %s ms while nobody asks it", number(median(c.consulAlone))))
		ours("own CPU", median(c.gateway), "of a change, without requests")
	}
	if n := c.rebuilt.count; n > 0 {
		ours("rebuild", 1000*c.rebuilt.seconds/n, fmt.Sprintf("mean of %.0f, as the gateway's metrics say", n))
	}
}

// changeRoutes changes a route until ctx ends.
func (b *bench) changeRoutes(ctx context.Context) {
	defer func() { _ = b.lab.agent.deregister(context.WithoutCancel(ctx), b.changed(0).ID) }()
	ticker := time.NewTicker(changeEvery)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = b.lab.agent.register(ctx, b.changed(n))
		}
	}
}

// changed is the instance that changes, as it is the nth time.
func (b *bench) changed(n int) instance {
	return instance{
		ID: "bench-change", Name: upstreamService, Address: b.lab.host, Port: mtlsPort, Connect: &native{true},
		Tags: []string{"urlprefix-" + changeHost + changePath(n)},
	}
}

func changePath(n int) string { return fmt.Sprintf("/%d/", n) }

// untilServed times changes until their effect, without load.
func (b *bench) untilServed(ctx context.Context, p *proxy, name string) error {
	defer func() { _ = b.lab.agent.deregister(context.WithoutCancel(ctx), b.changed(0).ID) }()
	c := change{
		host: changeHost, path: changePath,
		there: func(ctx context.Context, n int) error { return b.lab.agent.register(ctx, b.changed(n)) },
	}
	var took []float64
	for n := range timedChanges {
		ms, err := c.time(ctx, p, n, c.there, func(status int) bool { return status == http.StatusOK })
		if err != nil {
			return errors.Join(fmt.Errorf("change %d", n+1), err)
		}
		took = append(took, ms)
	}
	slices.Sort(took)
	worst, _ := quantile(took, .99)
	middle, _ := quantile(took, .5)
	b.keep(value{
		Scenario: name, Peer: sluice, Name: "effect p99", Unit: "ms", Value: worst,
		Note: fmt.Sprintf("from a change to its effect, of %d without load; p50 %s", timedChanges, number(middle)),
	})
	return nil
}
