package proxy_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
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
	for _, i := range l.Routes().Routes[0].Instances {
		if !i.Eligible || i.Avoided || i.Failed != 0 {
			t.Errorf("%s: eligible %t (%s), failed %d", i.Node, i.Eligible, i.Why, i.Failed)
		}
	}
}
