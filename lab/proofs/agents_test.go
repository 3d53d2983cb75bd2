package proofs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sluice/intentions"
	"sluice/internal/labtest"
	"sluice/mesh"
)

const (
	// freeze is how long an agent stays frozen.
	freeze = 10 * time.Second
	// recovery is the bar for watches and registrations after their agent is back.
	recovery = 5 * time.Second
)

// traffic is what goes on while an agent does not: web-1 speaks with a primary,
// and somebody else with web-1.
type traffic struct {
	*proof
	source, inbound *running
}

const (
	openRaw    = "open to the primary, crypto/tls"
	openJudged = "open to the primary, mesh that knows the intentions"
	newRaw     = "new to the primary, crypto/tls"
	newJudged  = "new to any primary, mesh that knows the intentions"
	wrongRaw   = "new to mongo-repl, crypto/tls"
	openWeb    = "gateway, open to web-1"
	newWeb     = "gateway, new to web-1"
)

// count tells how a stream has fared since a moment.
func (r *running) count(stream string, since time.Duration) string {
	counts := map[string]int{}
	for _, e := range r.sofar() {
		if e.Stream == stream && e.Began > since {
			counts[e.Result]++
		}
	}
	return fmt.Sprint(counts)
}

// traffic starts it and waits until all of it flows.
func (p *proof) traffic(primary string) *traffic {
	p.Helper()
	to := target{Address: primary + ":27018", Service: "mongo-primary"}
	t := &traffic{proof: p}
	t.source = p.start("web-1", order{Service: "web", TokenFile: p.token("web", "web-1"), Streams: []stream{
		{Name: openRaw, Client: "raw", Open: true, Pause: 5 * time.Millisecond, target: to},
		{Name: openJudged, Client: "judged", Open: true, Pause: 5 * time.Millisecond, target: to},
		{Name: newRaw, Client: "raw", Pause: 20 * time.Millisecond, target: to},
		{Name: newJudged, Client: "judged", Pause: 20 * time.Millisecond, target: target{Service: "mongo-primary"}},
		{Name: wrongRaw, Client: "raw", Pause: 100 * time.Millisecond, target: target{Address: primary + ":27020", Service: "mongo-repl"}},
	}})
	web := target{Address: p.node("web-1").Address + ":8000", Service: "web"}
	t.inbound = p.start("gateway-1", order{Service: "gateway", TokenFile: p.token("gateway", "gateway-1"), Streams: []stream{
		{Name: openWeb, Client: "raw", Open: true, Pause: 5 * time.Millisecond, target: web},
		{Name: newWeb, Client: "raw", Pause: 20 * time.Millisecond, target: web},
	}})
	t.source.awaitSince(0, []string{openRaw, openJudged, newRaw, newJudged}, served, opened, 1)
	t.source.awaitSince(0, []string{wrongRaw}, denied, denied, 1)
	t.inbound.awaitSince(0, []string{openWeb, newWeb}, served, opened, 1)
	return t
}

// flow lets traffic flow for a while.
func (t *traffic) flow(length time.Duration) {
	t.Helper()
	until := monotonic() + length
	t.source.await(length+10*time.Second, "traffic of "+length.String(), func(events []event) error {
		if last := events[len(events)-1]; last.Began < until {
			return errors.New("not yet")
		}
		return nil
	})
}

// untouched holds that nothing failed between two moments: no open connection
// ended, every new one was served, but for those that are never allowed.
func (t *traffic) untouched(from, to time.Duration, streams ...string) {
	t.Helper()
	count := map[string]int{}
	for _, e := range append(t.source.sofar(), t.inbound.sofar()...) {
		if e.Ended < from || e.Began > to {
			continue
		}
		count[e.Stream]++
		want := served
		if e.Stream == wrongRaw {
			want = denied
		}
		for _, stream := range streams {
			if e.Stream == stream && e.Result != want && e.Result != opened {
				t.Errorf("%s: %s %s, after %s", e.Stream, e.Result, e.Detail, e.Began-from)
			}
		}
	}
	for _, stream := range streams {
		if !strings.Contains(stream, "open") && count[stream] == 0 {
			t.Errorf("%s: nothing happened: no evidence", stream)
		}
	}
}

// deniedWithin writes a deny and waits until a stream meets it.
func (t *traffic) deniedWithin(source, destination string, r *running, stream string, bound time.Duration) time.Duration {
	t.Helper()
	began, _ := t.set(source, destination, intentions.Deny)
	r.awaitSince(began, []string{stream}, denied, denied, 1)
	for _, e := range r.sofar() {
		if e.Stream == stream && e.Result == denied && e.Began > began {
			took := e.Ended - began
			if took > bound {
				t.Errorf("%s -> %s was denied after %s only", source, destination, took)
			}
			return took
		}
	}
	return 0
}

func (t *traffic) stop() {
	t.Helper()
	t.source.stop()
	t.inbound.stop()
}

// awaitInstance waits until Consul lists an instance on the node as healthy.
func (p *proof) awaitInstance(service, node string, within time.Duration) {
	p.Helper()
	resolver := p.consul.Resolver(service)
	ctx, cancel := context.WithCancel(p.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = resolver.Run(ctx) }()
	defer func() { cancel(); <-done }()
	labtest.Eventually(p, within, service+" on "+node+" is in the catalog and healthy", func() error {
		asking, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		instances, err := resolver.Instances(asking, service)
		for _, instance := range instances {
			if instance.Node == node {
				return nil
			}
		}
		return fmt.Errorf("%s: %w", names(instances), errors.Join(err, errors.New("not there")))
	})
}

func names(instances []mesh.Instance) string {
	var names []string
	for _, instance := range instances {
		names = append(names, instance.ServiceID)
	}
	return "[" + strings.Join(names, " ") + "]"
}

// frozenSourceAgent freezes the agent beside web-1. What web-1 holds (its leaf,
// the instances, the intentions) serves on; and a deny still bites, because the
// destination decides.
func frozenSourceAgent(p *proof) {
	primary, _ := p.members()
	t := p.traffic(primary.Address)
	p.lab.Must("fault", "stop", "web-1/consul")
	from := monotonic()
	t.flow(freeze)
	t.untouched(from, monotonic(), openRaw, openJudged, newRaw, newJudged, wrongRaw, openWeb, newWeb)
	p.pageSays("application/json", http.StatusOK)
	took := t.deniedWithin("web", "mongo-primary", t.source, newRaw, time.Second)
	p.Logf("web-1's agent frozen for %s: nothing failed; a deny reached the destination after %s all the same", freeze, took.Round(time.Millisecond))
	p.set("web", "mongo-primary", intentions.Allow)

	back := monotonic()
	p.lab.Must("fault", "cont", "web-1/consul")
	took = t.deniedWithin("gateway", "web", t.inbound, newWeb, recovery)
	enforced := monotonic() - back
	p.awaitInstance("web", "web-1", recovery)
	p.Logf("web-1's agent goes on: a deny at once is enforced by web-1 after %s; in the catalog after %s", took.Round(time.Millisecond), (monotonic() - back).Round(time.Millisecond))
	if enforced > recovery {
		p.Errorf("web-1 enforces what is new after %s only", enforced)
	}
	p.set("gateway", "web", intentions.Allow)
	t.stop()
	p.pageComesBack(recovery)
}

// frozenDestinationAgent freezes the agent beside the primary. The verdicts that
// the primary's mongo-agent knows go on; a deny that is written meanwhile is held
// by the source alone, until the agent is back.
func frozenDestinationAgent(p *proof) {
	primary, _ := p.members()
	t := p.traffic(primary.Address)
	p.eachWebAnswers(recovery)
	p.lab.Must("fault", "stop", primary.Name+"/consul")
	from := monotonic()
	t.flow(freeze)
	t.untouched(from, monotonic(), openRaw, openJudged, newRaw, wrongRaw, openWeb, newWeb)
	p.Logf("web's tries to reach a mongo-primary by name meanwhile: %s", t.source.count(newJudged, from))
	p.pageSays("application/json", http.StatusOK)
	began, _ := p.set("web", "mongo-primary", intentions.Deny)
	t.source.await(recovery, "the source's own verdict cuts", func(events []event) error {
		for _, e := range events {
			if e.Stream == openJudged && isEnd(e) && e.Ended > began {
				return nil
			}
		}
		return errors.New("it is open")
	})
	t.source.awaitSince(monotonic(), []string{newRaw}, served, served, 3)
	for _, e := range t.source.sofar() {
		if e.Stream == newRaw && e.Began > began && e.Result != served {
			p.Errorf("the destination cannot have heard of the deny, but %s was %s %s", e.Stream, e.Result, e.Detail)
		}
	}
	p.Logf("the agent of %s frozen for %s: what was open stayed, the last known verdicts held; a deny was enforced by the source alone", primary.Name, freeze)

	back := monotonic()
	p.lab.Must("fault", "cont", primary.Name+"/consul")
	t.source.awaitSince(began, []string{newRaw}, denied, denied, 1)
	enforced := monotonic() - back
	p.set("web", "mongo-primary", intentions.Allow)
	t.stop()
	p.awaitInstance("mongo-primary", primary.Name, recovery)
	p.Logf("the agent of %s goes on: the deny is enforced after %s; in the catalog after %s", primary.Name, enforced.Round(time.Millisecond), (monotonic() - back).Round(time.Millisecond))
	if enforced > recovery {
		p.Errorf("the destination enforces the deny after %s only", enforced)
	}
	p.pageComesBack(10 * time.Second)
}

// killedAgent ends the agent beside web-1 without a goodbye, has it lose what it
// knows of its services, and starts it again.
func killedAgent(p *proof) {
	primary, _ := p.members()
	t := p.traffic(primary.Address)
	from := monotonic()
	p.lab.Must("fault", "kill", "web-1/consul")
	t.flow(2 * time.Second)
	p.forget("web-1")
	p.lab.Must("fault", "restart", "web-1/consul")
	p.awaitAgent("web-1")
	back := monotonic()
	t.untouched(from, back, openRaw, openJudged, newRaw, newJudged, wrongRaw, openWeb, newWeb)
	took := t.deniedWithin("gateway", "web", t.inbound, newWeb, recovery)
	p.awaitInstance("web", "web-1", recovery)
	p.Logf("web-1's agent killed and back: nothing failed; a deny at once is enforced by web-1 after %s; in the catalog after %s", took.Round(time.Millisecond), (monotonic() - back).Round(time.Millisecond))
	p.set("gateway", "web", intentions.Allow)
	t.stop()
	p.pageComesBack(recovery)
}

// forget deletes the services and checks that a node's agent would remember.
func (p *proof) forget(node string) {
	p.Helper()
	for _, kept := range []string{"services", "checks"} {
		path := filepath.Join(p.lab.State, "nodes", node, "consul", kept)
		if entries, err := os.ReadDir(path); err != nil || len(entries) == 0 && kept == "services" {
			p.Fatalf("%s holds no %s: %v", path, kept, err)
		}
		if err := os.RemoveAll(path); err != nil {
			p.Fatal(err)
		}
	}
}

// awaitAgent waits until the agent of a node answers.
func (p *proof) awaitAgent(node string) {
	p.Helper()
	labtest.Eventually(p, 20*time.Second, "the agent of "+node+" answers", func() error {
		result := p.lab.Run("exec", node, "--", "consul", "catalog", "nodes")
		if result.Code != 0 {
			return errors.New(result.Stderr)
		}
		return nil
	})
}

// restartedServer ends the only Consul server and starts it again.
func restartedServer(p *proof) {
	primary, _ := p.members()
	t := p.traffic(primary.Address)
	from := monotonic()
	p.lab.Must("fault", "restart", "consul-1/consul")
	labtest.Eventually(p, 20*time.Second, "Consul has a leader", func() error {
		response, err := (&http.Client{Timeout: time.Second}).Get(p.lab.URL(8500, "/v1/status/leader"))
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if body, err := io.ReadAll(response.Body); err != nil || len(body) < 5 {
			return fmt.Errorf("it answers %s", body)
		}
		return nil
	})
	back := monotonic()
	labtest.Eventually(p, recovery, "Consul takes a deny", func() error {
		return p.consul.SetIntention(p.bounded(10*time.Second), intentions.Rule{Source: "gateway", Destination: "web", Action: intentions.Deny})
	})
	wrote := monotonic()
	t.untouched(from, back, openRaw, openJudged, newRaw, newJudged, wrongRaw)
	t.inbound.awaitSince(wrote, []string{newWeb}, denied, denied, 1)
	enforced := monotonic() - back
	p.awaitInstance("web", "web-1", recovery)
	p.Logf("the server was away for %s: nothing failed; a deny at once is enforced by web-1 %s after it had a leader; in the catalog after %s", (back - from).Round(time.Millisecond), enforced.Round(time.Millisecond), (monotonic() - back).Round(time.Millisecond))
	if enforced > recovery {
		p.Errorf("web-1 enforces what is new after %s only", enforced)
	}
	p.set("gateway", "web", intentions.Allow)
	t.stop()
	p.pageComesBack(recovery)
}

// eachWebAnswers waits until every web has read from the primary since the last
// deny cut its connections: what is open then is what a frozen agent must not
// disturb, and a web without an open connection finds nobody by name.
func (p *proof) eachWebAnswers(within time.Duration) {
	p.Helper()
	waiting := map[string]bool{"web-1": true, "web-2": true}
	labtest.Eventually(p, within, "each web reads from the primary", func() error {
		status, body, _ := p.page("application/json")
		var answer struct {
			Node string `json:"node"`
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			return err
		}
		if status == http.StatusOK {
			delete(waiting, answer.Node)
		}
		if len(waiting) > 0 {
			return fmt.Errorf("still waiting for %v", waiting)
		}
		return nil
	})
}

// pageComesBack waits until the page works.
func (p *proof) pageComesBack(within time.Duration) {
	p.Helper()
	labtest.Eventually(p, within, "the page works", func() error {
		status, body, err := p.lab.Page("application/json")
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("status %d: %s", status, excerpt(body))
		}
		return nil
	})
}
