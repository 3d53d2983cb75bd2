package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

// series returns the value of the only series of a metric that has these labels, as in
// "service=web", and how many have them. That of a histogram is its count.
func (l *lab) series(t *testing.T, name string, labels ...string) (value float64, found int) {
	t.Helper()
	families, err := l.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "sluice_gateway_"+name {
			continue
		}
		for _, metric := range family.GetMetric() {
			var texts []string
			for _, label := range metric.GetLabel() {
				texts = append(texts, label.GetName()+"="+label.GetValue())
			}
			if slices.ContainsFunc(labels, func(want string) bool { return !slices.Contains(texts, want) }) {
				continue
			}
			found++
			value = metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return value, found
}

// has wants one series with these labels and that value.
func (l *lab) has(t *testing.T, want float64, name string, labels ...string) {
	t.Helper()
	if got, found := l.series(t, name, labels...); found != 1 || got != want {
		t.Errorf("%s{%s}: %d series, value %v; want one with %v", name, strings.Join(labels, ","), found, got, want)
	}
}

func TestMetricsTellWhatBecameOfTheAttemptsAtEachInstance(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb, meshtest.Allow("gateway", "bad"), meshtest.Allow("gateway", "down"))
	serve(world, "web", "web-1", hello, "urlprefix-/web")
	serve(world, "bad", "bad-1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "urlprefix-/bad")
	serve(world, "denied", "denied-1", hello, "urlprefix-/denied")
	world.Catalog.Add(world.Instance("down", "down-1", refusing(t), "urlprefix-/down retry=0"))
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Ejection: balance.Ejection{Origin: 3, Local: 9}})
	meshtest.Wait(t, "all routes are there", func() bool { return l.Table().Len() == 4 })
	for range 2 {
		l.do("POST", "/web", "12345")
	}
	for range 3 {
		l.get("/bad")
	}
	l.get("/denied")
	l.get("/down")
	meshtest.Wait(t, "all are counted", func() bool { _, found := l.series(t, "requests_total", "service=down"); return found == 1 })

	l.has(t, 2, "instance_attempts_total", "service=web", "instance_id=web-web-1", "node=web-1", "outcome=success")
	l.has(t, 0, "instance_attempts_total", "service=web", "outcome=failed_answer")
	l.has(t, 3, "instance_attempts_total", "service=bad", "outcome=failed_answer")
	l.has(t, 1, "instance_attempts_total", "service=denied", "outcome=refused_by_policy")
	l.has(t, 1, "intention_denied_total", "service=denied")
	l.has(t, 0, "intention_denied_total", "service=web")
	l.has(t, 1, "instance_available", "service=web", "datacenter=dc1")
	l.has(t, 0, "instance_available", "service=bad")
	l.has(t, 1, "ejections_total", "service=bad")
	l.has(t, 0, "ejections_total", "service=web")
	l.has(t, 10, "request_body_bytes_total", "service=web")
	l.has(t, 2*float64(len("hello gateway")), "response_body_bytes_total", "service=web")
	l.has(t, 1, "connect_duration_seconds", "service=web")
	if failed, _ := l.series(t, "instance_attempts_total", "service=down", "outcome=failed_connection"); failed == 0 {
		t.Error("a connection that failed is not counted")
	}
	if left, found := l.series(t, "retry_budget_left", "service=web"); found != 1 || left < 100 {
		t.Errorf("retry_budget_left: %d series, %v", found, left)
	}
}

func TestMetricsTellHowAnInstanceIsAtThisMoment(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	var inside atomic.Bool
	release := make(chan struct{})
	instance := serve(world, "web", "web-1", func(http.ResponseWriter, *http.Request) { inside.Store(true); <-release }, "urlprefix-/web")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if response, err := l.client.Get(l.url + "/web"); err == nil {
			_ = response.Body.Close()
		}
	}()
	meshtest.Wait(t, "a request is in hand", inside.Load)
	l.has(t, 1, "instance_requests_in_flight", "service=web")
	close(release)
	<-done
	meshtest.Wait(t, "it is over", func() bool { n, _ := l.series(t, "instance_requests_in_flight", "service=web"); return n == 0 })
	if _, err := l.Drain("web", instance.ServiceID, "", true); err != nil {
		t.Fatal(err)
	}
	l.has(t, 0, "instance_available", "service=web")

	moved := instance // the same registration, with the address of another process
	moved.Address = serve(world, "other", "other-1", hello).Address
	world.Catalog.Remove(instance)
	world.Catalog.Add(moved)
	meshtest.Wait(t, "it has moved", func() bool {
		_, before := l.series(t, "instance_available", "service=web", "address="+instance.Address)
		_, after := l.series(t, "instance_available", "service=web", "address="+moved.Address)
		return before == 0 && after == 1
	})
}

func TestMetricsTellOfTCPConnections(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Allow("gateway", "db"))
	l, connect := streams(t, world)
	conn := connect()
	speaks(t, conn)
	l.has(t, 1, "instance_requests_in_flight", "service=db")
	_ = conn.Close()
	meshtest.Wait(t, "it is counted", func() bool { n, _ := l.series(t, "streams_total", "service=db", "flags="); return n == 1 })
	l.has(t, 4, "request_body_bytes_total", "service=db")
	l.has(t, 4, "response_body_bytes_total", "service=db")
	l.has(t, 1, "instance_attempts_total", "service=db", "outcome=success")
	if i := l.Routes().Routes[0].Instances[0]; i.PerSecond == 0 {
		t.Error("the page does not know of the connection")
	}
	world.Policy.Set()
	_, _ = io.Copy(io.Discard, connect())
	meshtest.Wait(t, "the denial is counted", func() bool { n, _ := l.series(t, "streams_total", "flags=DI"); return n == 1 })
	l.has(t, 1, "intention_denied_total", "service=db")
}

// still is a catalog that changes when it is told to, and only then, as Consul's does.
type still struct {
	mu       sync.Mutex
	services map[string][]mesh.Instance
	changed  chan struct{}
}

func (c *still) Services() map[string][]mesh.Instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.services
}

func (c *still) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *still) set(services map[string][]mesh.Instance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.services = services
	close(c.changed)
	c.changed = make(chan struct{})
}

func TestAnInstanceThatWentIsNotCountedUntilTheNextChange(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	stays, goes := serve(world, "web", "web-1", hello, "urlprefix-/web"), serve(world, "web", "web-2", hello, "urlprefix-/web")
	catalog := &still{changed: make(chan struct{})}
	catalog.set(map[string][]mesh.Instance{"web": {stays, goes}})
	l := with(t, world, proxy.Config{Catalog: catalog, Dialer: world.Dialer("gateway", nil), Policy: world.Policy})
	counted := func(want int) bool {
		_, found := l.series(t, "instance_available", "service=web")
		return found == want && strings.Contains(fetch(t, page(l, false).Index(), "/").Body.String(), fmt.Sprintf("<b>%d</b> instances", want))
	}
	meshtest.Wait(t, "both are counted", func() bool { return counted(2) })
	catalog.set(map[string][]mesh.Instance{"web": {stays}})
	meshtest.Wait(t, "one is left", func() bool { return counted(1) })
}

func TestThePageSaysThatConsulCannotBeAsked(t *testing.T) {
	l := start(t, meshtest.New(t), nil)
	state := proxy.DatacenterState{Datacenter: "dc1", Own: true, Confirmed: time.Unix(1000, 0)}
	admin := l.Admin(proxy.AdminConfig{Followed: func() []proxy.DatacenterState { return []proxy.DatacenterState{state} }})
	if html := fetch(t, admin.Index(), "/").Body.String(); strings.Contains(html, "Datacenter <b>dc1</b>") || strings.Contains(html, "<b>dc1</b> serves") {
		t.Errorf("all is well, and the page says\n%s", html)
	}
	state.Stale, state.Reason = true, "the agent does not answer"
	contains(t, fetch(t, admin.Index(), "/").Body.String(), "Datacenter <b>dc1</b> cannot be asked", "as of 00:16:40", "the agent does not answer")
}
