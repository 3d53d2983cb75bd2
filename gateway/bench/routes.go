package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
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
	// hitRoutes is over how many routes requests are spread.
	hitRoutes = 1_000
)

// manyRoutes measures every proxy with every size of table.
func (b *bench) manyRoutes(ctx context.Context) error {
	for _, n := range routeCounts() {
		if err := b.withRoutes(ctx, n); err != nil {
			return err
		}
	}
	many := routesScenario(routeCounts()[2])
	few, ok := b.results.value(routesScenario(routeCounts()[0]), sluice, "resident")
	with, also := b.results.value(many, sluice, "resident")
	if ok && also {
		b.results.Values = append(b.results.Values, value{Scenario: many, Peer: sluice, Name: "resident more", Unit: "MB", Value: with.Value - few.Value, Note: "than with 10 routes"})
	}
	return nil
}

func (b *bench) withRoutes(ctx context.Context, n int) error {
	name, routes := routesScenario(n), makeRoutes(n)
	ids, err := b.registerRoutes(ctx, routes)
	if err != nil {
		return err
	}
	// Also after an interrupt: the next size must not find them.
	defer func() {
		for _, id := range ids {
			_ = b.lab.agent.deregister(context.WithoutCancel(ctx), id)
		}
	}()
	targets := hits(routes, hitRoutes)
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
	if err := b.rounds(ctx, name, proxies, func(*proxy) loadConfig { return b.load(targets) }); err != nil {
		return err
	}
	for _, p := range proxies {
		m, err := readMemory(p.process.pid())
		if err != nil {
			return err
		}
		b.results.Values = append(b.results.Values, value{Scenario: name, Peer: p.peer.name, Name: "resident", Unit: "MB", Value: megabytes(m.resident), Note: "after the rounds"})
	}
	for _, p := range proxies {
		if p.peer.name == sluice {
			return b.whileRoutesChange(ctx, p, name, targets)
		}
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

// registerRoutes registers instances that carry the routes as tags.
func (b *bench) registerRoutes(ctx context.Context, routes []hostRoute) (ids []string, err error) {
	for n := range routeInstances {
		i := instance{
			ID: fmt.Sprintf("bench-routes-%d", n), Name: upstreamService, Address: b.lab.host, Port: mtlsPort, Connect: &native{true},
		}
		for _, r := range routes[n*len(routes)/routeInstances : (n+1)*len(routes)/routeInstances] {
			i.Tags = append(i.Tags, "urlprefix-"+r.Host+r.Path)
		}
		ids = append(ids, i.ID)
		if err := b.lab.agent.register(ctx, i); err != nil {
			return ids, err
		}
	}
	return ids, nil
}

// whileRoutesChange compares latency at a constant rate with and without a change
// of one route five times a second, and asks the gateway what a rebuild took.
func (b *bench) whileRoutesChange(ctx context.Context, p *proxy, name string, targets []hit) error {
	perSecond, _ := b.results.median(name, sluice, rate)
	cfg := b.load(targets)
	cfg.Address, cfg.Rate = p.plan.listen(), perSecond/2
	if cfg.Rate == 0 {
		return nil
	}
	still, err := b.generator.send(ctx, cfg)
	if err != nil {
		return err
	}
	before := rebuilds(ctx, p.plan.adminAddress())
	changing, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.changeRoutes(changing)
	}()
	moving, err := b.generator.send(ctx, cfg)
	stop()
	<-ended
	if err != nil {
		return err
	}
	after := rebuilds(ctx, p.plan.adminAddress())
	note := fmt.Sprintf("at %.0f requests/s, p99 %.0f µs and %.0f µs", cfg.Rate, still.P99, moving.P99)
	b.results.Values = append(b.results.Values, value{Scenario: name, Peer: sluice, Name: "p99 ratio", Unit: "×", Value: moving.P99 / max(1, still.P99), Note: "while one route changes 5 times a second; " + note})
	if n := after.count - before.count; n > 0 {
		b.results.Values = append(b.results.Values, value{
			Scenario: name, Peer: sluice, Name: "rebuild", Unit: "ms", Value: 1000 * (after.seconds - before.seconds) / n, Note: fmt.Sprintf("mean of %.0f, as the gateway's metrics say", n),
		})
	}
	return nil
}

// changeRoutes adds and removes a route until ctx ends.
func (b *bench) changeRoutes(ctx context.Context) {
	i := instance{ID: "bench-change", Name: upstreamService, Address: b.lab.host, Port: mtlsPort, Connect: &native{true}}
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			_ = b.lab.agent.deregister(context.WithoutCancel(ctx), i.ID)
			return
		case <-ticker.C:
			i.Tags = []string{fmt.Sprintf("urlprefix-change.bench.test/%d", n)}
			_ = b.lab.agent.register(ctx, i)
		}
	}
}

// rebuildTimes is a histogram's sum and count.
type rebuildTimes struct{ seconds, count float64 }

var rebuildMetric = regexp.MustCompile(`(?m)^sluice_gateway_\w*build\w*_seconds_(sum|count)\S* (\S+)$`)

// rebuilds reads from the gateway's metrics what building its table has taken;
// nothing if it does not tell.
func rebuilds(ctx context.Context, address string) rebuildTimes {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return rebuildTimes{}
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return rebuildTimes{}
	}
	defer func() { _ = response.Body.Close() }()
	var text strings.Builder
	_, _ = io.Copy(&text, io.LimitReader(response.Body, 16<<20))
	return parseRebuilds(text.String())
}

func parseRebuilds(text string) rebuildTimes {
	var t rebuildTimes
	for _, match := range rebuildMetric.FindAllStringSubmatch(text, -1) {
		n, err := strconv.ParseFloat(match[2], 64)
		if err != nil {
			continue
		}
		if match[1] == "sum" {
			t.seconds += n
		} else {
			t.count += n
		}
	}
	return t
}
