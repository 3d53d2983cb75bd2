package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/consultest"
)

// arena is a gateway process in front of a real Consul, under load. web-1 is there
// all the time, and serves /web; web-2 to web-4 can be taken out, and serve /web and,
// alone, /flap. All of them are one server that never ends: a request that fails
// does so by the gateway's fault.
type arena struct {
	*consultest.Agent
	t            *testing.T
	front, admin string
	loads        map[string]*load
	stop         chan struct{}
	goroutines   int
}

// load is what the clients of one path were answered.
type load struct {
	url     string
	client  *http.Client
	clients sync.WaitGroup
	total   atomic.Int64
	mu      sync.Mutex
	answers map[string]int
}

const (
	clientsPerPath = 4
	flapping       = 3
	// between is how long a client waits from one request to the next, at least.
	between = 5 * time.Millisecond
)

func startArena(t *testing.T) *arena {
	t.Helper()
	agent := consultest.Start(t, consultest.Config{})
	intend(agent, "allow")
	startWeb(t, agent)
	a := &arena{
		Agent: agent, t: t, front: "http://" + net.JoinHostPort(agent.Host, "9999"), admin: "http://" + net.JoinHostPort(agent.Host, "9998"),
		loads: map[string]*load{}, stop: make(chan struct{}),
	}
	for i := range flapping {
		a.register(i)
	}
	startProcess(t, "-node", agent.Node, "-address", agent.Host, "-loopback", agent.Host,
		"-consul", agent.Address, "-token-file", agent.ServiceFile("gateway"))
	consultest.Await(t, 20*time.Second, "every route serves", func() error {
		return errors.Join(answers(a.front+"/web", 200)(), answers(a.front+"/flap", 200)())
	})
	a.begin() // once without chaos, so that idle connections count as there before
	a.more(200)
	a.end()
	a.goroutines = a.count()
	a.stop = make(chan struct{})
	a.begin()
	return a
}

func instance(i int) string { return "web-" + strconv.Itoa(i+2) }

func (a *arena) register(i int, more ...string) {
	a.t.Helper()
	a.Call(http.MethodPut, "/v1/agent/service/register", map[string]any{
		"ID": instance(i), "Name": "web", "Address": a.Host, "Port": 8000, "Tags": append([]string{"urlprefix-/web", "urlprefix-/flap"}, more...),
		"Connect": map[string]bool{"Native": true}, "Check": map[string]string{"CheckID": instance(i), "TTL": "1h"},
	}, nil)
	a.pass(i)
}

// pass makes the check pass. Consul keeps what it is told so over a restart, but not
// the status that a registration begins with.
func (a *arena) pass(i int) {
	a.t.Helper()
	a.Call(http.MethodPut, "/v1/agent/check/pass/"+instance(i), nil, nil)
}

// begin starts the clients, and end waits for them.
func (a *arena) begin() {
	for _, path := range []string{"/web", "/flap"} {
		l := &load{url: a.front + path, answers: map[string]int{}, client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: clientsPerPath}}}
		a.loads[path] = l
		for range clientsPerPath {
			l.clients.Go(func() { l.run(a.stop) })
		}
	}
}

func (a *arena) end() {
	close(a.stop)
	for _, l := range a.loads {
		l.clients.Wait()
		l.client.CloseIdleConnections()
	}
}

func (l *load) run(stop <-chan struct{}) {
	pace := time.NewTicker(between)
	defer pace.Stop()
	for {
		select {
		case <-stop:
			return
		case <-pace.C:
		}
		answer := "no answer"
		if response, err := l.client.Get(l.url); err == nil {
			answer = strconv.Itoa(response.StatusCode)
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				answer = "half an answer"
			}
			_ = response.Body.Close()
		}
		l.mu.Lock()
		l.answers[answer]++
		l.mu.Unlock()
		l.total.Add(1)
	}
}

// more waits until each path has been answered so many times more.
func (a *arena) more(n int64) {
	a.t.Helper()
	for path, l := range a.loads {
		want := l.total.Load() + n
		consultest.Await(a.t, time.Minute, "requests for "+path+" go on", func() error {
			if got := l.total.Load(); got < want {
				return fmt.Errorf("%d answers, want %d", got, want)
			}
			return nil
		})
	}
}

// only fails unless there were answers, and no others than these.
func (a *arena) only(path string, want ...string) {
	a.t.Helper()
	l := a.loads[path]
	l.mu.Lock()
	defer l.mu.Unlock()
	a.t.Logf("%s: %v", path, l.answers)
	for answer := range l.answers {
		if !slices.Contains(want, answer) {
			a.t.Errorf("%s was answered %v, want nothing but %v", path, l.answers, want)
			return
		}
	}
	if l.total.Load() == 0 {
		a.t.Errorf("%s was never asked for", path)
	}
}

// table is the routes with how many instances each has.
func (a *arena) table() map[string]int {
	a.t.Helper()
	_, body, err := get(a.admin + "/routes")
	if err != nil {
		a.t.Fatal(err)
	}
	var found struct {
		Routes []struct {
			Route     string
			Instances []struct{ Instance string }
		}
	}
	if err := json.Unmarshal([]byte(body), &found); err != nil {
		a.t.Fatal(err)
	}
	table := map[string]int{}
	for _, r := range found.Routes {
		table[r.Route] = len(r.Instances)
	}
	return table
}

// count is how many goroutines the gateway has.
func (a *arena) count() int {
	a.t.Helper()
	return a.metric("go_goroutines")
}

// metric is the value of a metric without labels.
func (a *arena) metric(name string) int {
	a.t.Helper()
	_, body, err := get(a.admin + "/metrics")
	if err != nil {
		a.t.Fatal(err)
	}
	_, rest, ok := strings.Cut(body, "\n"+name+" ")
	text, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(text)
	if !ok || err != nil {
		a.t.Fatalf("there is no metric %s: %v", name, err)
	}
	return n
}

// whole waits until everything is as it was at the begin, changes are followed
// again, and no more goroutines run.
func (a *arena) whole() {
	a.t.Helper()
	all := map[string]int{"/web": 1 + flapping, "/flap": flapping}
	consultest.Await(a.t, 10*time.Second, "everybody is back", func() error {
		if table := a.table(); !maps.Equal(table, all) {
			return fmt.Errorf("the table is %v", table)
		}
		return nil
	})
	intend(a.Agent, "deny")
	consultest.Await(a.t, 5*time.Second, "a deny bites", answers(a.front+"/web", 403))
	intend(a.Agent, "allow")
	consultest.Await(a.t, 5*time.Second, "an allow works", answers(a.front+"/web", 200))
	consultest.Await(a.t, 10*time.Second, "as many goroutines run as before", func() error {
		if n := a.count(); n > a.goroutines {
			return fmt.Errorf("%d goroutines, were %d", n, a.goroutines)
		}
		return nil
	})
}

// flap takes an instance out and back, in one of two ways, until it has done so n
// times. A flap is one change of it: out, or back.
func (a *arena) flap(i, n int, pace time.Duration) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for done := 0; done < n; {
		<-tick.C
		if done/2%2 == 0 {
			a.Call(http.MethodPut, "/v1/agent/service/deregister/"+instance(i), nil, nil)
			<-tick.C
			a.register(i)
		} else {
			a.Call(http.MethodPut, "/v1/agent/check/fail/"+instance(i), nil, nil)
			<-tick.C
			a.pass(i)
		}
		done += 2
	}
}

const (
	// wantedFlaps is how many flaps a second the storm is to have. The instances together
	// try for half as many more.
	wantedFlaps = 100
	// leastFlaps is what a machine with much other work reaches, too: the agent is what
	// bounds them then. A storm with fewer shows nothing.
	leastFlaps = 40
	// rounds is how often the storm is repeated where others have disturbed it.
	rounds = 4
)

// storm lets all instances flap, and returns how many flaps there were a second.
func (a *arena) storm(each int) float64 {
	var instances sync.WaitGroup
	began := time.Now()
	for i := range flapping {
		instances.Go(func() { a.flap(i, each, flapping*time.Second/(wantedFlaps*3/2)) })
	}
	instances.Wait()
	return float64(each*flapping) / time.Since(began).Seconds()
}

func TestNoRouteIsLostWhileInstancesFlapInARealConsul(t *testing.T) {
	a := startArena(t)
	const each, tables = 120, "sluice_gateway_table_build_seconds_count"
	best := 0.0
	for round := 0; round < rounds && best < wantedFlaps; round++ {
		built := a.metric(tables)
		rate := a.storm(each)
		built = a.metric(tables) - built
		t.Logf("%d flaps, %.0f a second; %d tables", each*flapping, rate, built)
		if built < each*flapping/20 {
			t.Errorf("%d tables for %d flaps: the gateway has slept through the storm", built, each*flapping)
		}
		best = max(best, rate)
	}
	switch {
	case best < leastFlaps:
		t.Errorf("%.0f flaps a second at most, want %d: that was no storm", best, wantedFlaps)
	case best < wantedFlaps:
		t.Logf("%.0f flaps a second at most, and not %d: the machine had other work", best, wantedFlaps)
	}
	a.more(20)
	a.end()
	a.only("/web", "200")
	a.only("/flap", "200", "503") // 503 while all that declare it are out; never 404
	a.whole()
}

func TestTheLastGoodTableServesWhileConsulIsKilledAndStartedAgain(t *testing.T) {
	a := startArena(t)
	before := a.table()
	a.Kill()
	for path, text := range map[string]string{
		"/metrics":     `sluice_gateway_datacenter_stale{datacenter="dc1"} 1`,
		"/datacenters": `"stale": true`,
		"/":            "Datacenter <b>dc1</b> cannot be asked: its last known instances stay",
	} {
		consultest.Await(t, 20*time.Second, path+" says that the catalog is old", answers(a.admin+path, 200, text))
	}
	a.more(400)
	if table := a.table(); !maps.Equal(table, before) {
		t.Errorf("without Consul the table is %v, was %v", table, before)
	}
	a.Restart()
	a.AwaitWorking()
	consultest.Await(t, 20*time.Second, "the catalog is known to be new", answers(a.admin+"/metrics", 200, `sluice_gateway_datacenter_stale{datacenter="dc1"} 0`))
	a.more(100)
	a.end()
	a.only("/web", "200")
	a.only("/flap", "200")
	a.whole()
}

func TestTheLastGoodTableServesWhileTheAgentHangs(t *testing.T) {
	a := startArena(t)
	before := a.table()
	a.Stop()
	a.more(400)
	if table := a.table(); !maps.Equal(table, before) {
		t.Errorf("while the agent hangs the table is %v, was %v", table, before)
	}
	a.Continue()
	a.AwaitWorking()
	a.more(100)
	a.end()
	a.only("/web", "200")
	a.only("/flap", "200")
	a.whole()
}

func TestNoRequestFailsWhileTheRootIsReplaced(t *testing.T) {
	a := startArena(t)
	last := newest(t, a.admin)
	rotateRoot(t, a.Agent)
	for kind, text := range map[string]string{"root": "+ ", "leaf": "connections with the old one"} {
		tells(t, a.admin, last, kind, text)
	}
	a.more(400)
	consultest.Await(t, 10*time.Second, "every connection has shown the new leaf", a.newLeafAlone)
	a.end()
	a.only("/web", "200")
	a.only("/flap", "200")
	a.whole()
}

// newLeafAlone wants all connections of the gateway to have shown its leaf of now.
func (a *arena) newLeafAlone() error {
	_, body, err := get(a.admin + "/mesh")
	if err != nil {
		return err
	}
	var report struct {
		Identities  []struct{ Serial string }
		Connections []struct {
			LocalSerial string `json:"local_serial"`
		}
	}
	if err := json.Unmarshal([]byte(body), &report); err != nil || len(report.Identities) != 1 || len(report.Connections) == 0 {
		return fmt.Errorf("%w: %s", err, body)
	}
	for _, c := range report.Connections {
		if c.LocalSerial != report.Identities[0].Serial {
			return fmt.Errorf("a connection has shown %s, and the leaf is %s", c.LocalSerial, report.Identities[0].Serial)
		}
	}
	return nil
}
