package proxy_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

func TestWrongIdentityIsARefusalAndSaysNothingAboutHealth(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb, meshtest.Allow("gateway", "other"))
	var reached atomic.Int64
	other := world.Serve("other", "other-1", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	wrong := world.Instance("web", "wrong", other.Address, "urlprefix-/web")
	world.Catalog.Add(wrong)
	world.Serve("web", "right", http.HandlerFunc(hello), "urlprefix-/web")
	dialer := counting{world.Dialer("gateway", nil), map[string]*atomic.Int64{"wrong": {}, "right": {}}}
	// Each request is given to an instance in turn, and would be tried at the other.
	l := with(t, world, proxy.Config{Dialer: dialer, Policy: world.Policy, Strategy: "rr"})

	const each = 30
	statuses := map[int]int{}
	for i := range 2 * each {
		got := l.do([]string{"GET", "POST"}[i/2%2], "/web", strings.Repeat("body", i/2%2), "Accept", "application/json")
		statuses[got.status]++
		if got.status != 403 {
			continue
		}
		var content struct {
			Facts []struct{ Name, Value string }
		}
		if err := json.Unmarshal([]byte(got.body), &content); err != nil {
			t.Fatalf("%v: %s", err, got.body)
		}
		facts := map[string]string{}
		for _, f := range content.Facts {
			facts[f.Name] = f.Value
		}
		if facts["source"] != "gateway" || facts["destination"] != "web" || facts["decided by"] == "" ||
			facts["expected"] != wrong.ID.String() || facts["answered"] != other.ID.String() {
			t.Fatalf("the page says %q", facts)
		}
	}
	if statuses[403] != each || statuses[200] != each {
		t.Errorf("statuses %v, want as many from the right as refusals for the wrong: it was ejected, or others were tried", statuses)
	}
	if n := dialer.dials["wrong"].Load(); n != each || reached.Load() != 0 {
		t.Errorf("%d dials and %d requests at the wrong address, want %d and none", n, reached.Load(), each)
	}
	for name, want := range map[string]float64{
		"sluice_gateway_wrong_identity_total": each,
		"sluice_gateway_retries_total":        0, "sluice_gateway_retry_budget_exhausted_total": 0,
	} {
		if n := l.metric(t, name); n != want {
			t.Errorf("%s is %v, want %v", name, n, want)
		}
	}
	e, err := l.Explain(t.Context(), proxy.Question{URL: "/web"})
	if err != nil || e.Status != 0 || !strings.Contains(e.Verdict, "One of 1 instances answers, or the request is refused. web-wrong: wrong identity: "+other.ID.String()+" answered") {
		t.Errorf("the explanation is %d %q, %v", e.Status, e.Verdict, err)
	}
	for _, i := range e.Instances {
		if wrong := i.Node == "wrong"; wrong != strings.Contains(i.Why, "wrong identity") || wrong != (i.Impostor != "") {
			t.Errorf("%s: %q, %q", i.Node, i.Why, i.Impostor)
		}
	}
	for _, i := range l.Routes().Routes[0].Instances {
		if !i.Eligible || i.Avoided || i.Failed != 0 {
			t.Errorf("%s: eligible %t (%s), failed %d", i.Node, i.Eligible, i.Why, i.Failed)
		}
	}
}

func TestAnInstanceThatIsItselfAgainIsNotCalledAnImpostor(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	web := world.Serve("web", "right", http.HandlerFunc(hello))
	other := world.Serve("other", "other-1", http.HandlerFunc(hello))
	var lost atomic.Bool
	l := with(t, misled(world, web, "urlprefix-/web"), proxy.Config{Dialer: elsewhere{world.Dialer("gateway", nil), other.Address, &lost}, Policy: world.Policy})
	for _, c := range []struct {
		lost   bool
		status int
	}{{true, 403}, {false, 200}} {
		lost.Store(c.lost)
		meshtest.Wait(t, "it is answered so", func() bool { return l.get("/web").status == c.status })
		e, err := l.Explain(t.Context(), proxy.Question{URL: "/web"})
		if err != nil || (e.Status == 403) != c.lost || strings.Contains(e.Verdict, "wrong identity") != c.lost {
			t.Errorf("lost %t: %d %q, %v", c.lost, e.Status, e.Verdict, err)
		}
	}
}

// misled adds an instance that is known under tags.
func misled(world *meshtest.World, instance mesh.Instance, tags ...string) *meshtest.World {
	world.Catalog.Add(world.Instance("web", "web-1", instance.Address, tags...))
	return world
}

// elsewhere is a dialer that is led to another address while it is lost.
type elsewhere struct {
	proxy.Dialer
	address string
	lost    *atomic.Bool
}

func (e elsewhere) DialInstance(ctx context.Context, instance mesh.Instance) (*mesh.Conn, error) {
	if e.lost.Load() {
		instance.Address = e.address
	}
	return e.Dialer.DialInstance(ctx, instance)
}
