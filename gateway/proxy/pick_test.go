package proxy_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

// counting is a Dialer that counts the dials to each instance.
type counting struct {
	proxy.Dialer
	dials map[string]*atomic.Int64
}

func (c counting) DialInstance(ctx context.Context, instance mesh.Instance) (*mesh.Conn, error) {
	c.dials[instance.Node].Add(1)
	return c.Dialer.DialInstance(ctx, instance)
}

// with runs a gateway with its own dialer and clock.
func with(t *testing.T, world *meshtest.World, cfg proxy.Config) *lab {
	t.Helper()
	cfg.ExplainErrors = true
	return silent(t, world, cfg)
}

// silent is with for a gateway whose pages explain nothing.
func silent(t *testing.T, world *meshtest.World, cfg proxy.Config) *lab {
	t.Helper()
	if cfg.Catalog == nil {
		cfg.Catalog = world.Catalog
	}
	registry := prometheus.NewRegistry()
	cfg.Registerer = registry
	l := &lab{World: world, Proxy: proxy.New(cfg), t: t, registry: registry}
	world.Run("gateway", l.Proxy.Run)
	l.connect(t)
	meshtest.Wait(t, "the route is there", func() bool { return len(l.Table().Routes()) > 0 })
	return l
}

func TestOwnDenyNeedsNobodyElseToAgree(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	own := meshtest.NewPolicy()
	own.Set(allowWeb)
	world.Serve("web", "web-1", http.HandlerFunc(hello), "urlprefix-/web")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: own})
	if got := l.get("/web"); got.status != 200 {
		t.Fatalf("before: %d %q", got.status, got.body)
	}
	own.Set(meshtest.Deny("gateway", "web"))
	if got := l.get("/web"); got.status != 403 {
		t.Fatalf("a deny that neither the dialer nor web knows: %d %q", got.status, got.body)
	}
}

func TestInstanceThatCannotBeReachedIsLeftAloneForAWhile(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	world.Catalog.Add(world.Instance("web", "down", refusing(t), "urlprefix-/web"))
	world.Serve("web", "up", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close") // so that each request dials
	}), "urlprefix-/web")
	dialer := counting{world.Dialer("gateway", nil), map[string]*atomic.Int64{"down": {}, "up": {}}}
	var now atomic.Int64
	now.Store(time.Unix(1000, 0).UnixNano())
	l := with(t, world, proxy.Config{Dialer: dialer, Now: func() time.Time { return time.Unix(0, now.Load()) }})
	requests := 0
	for dialer.dials["down"].Load() < 2 { // two failures in a row eject
		requests++
		if got := l.get("/web"); got.status != 200 || requests > 1000 {
			t.Fatalf("request %d: %d", requests, got.status)
		}
	}
	for range 50 {
		l.get("/web")
	}
	if n := dialer.dials["down"].Load(); n != 2 {
		t.Errorf("it was dialled %d times while it was to be left alone", n)
	}
	now.Add(int64(11 * time.Second))
	for range 1000 {
		l.get("/web")
		if dialer.dials["down"].Load() == 3 {
			return
		}
	}
	t.Error("it was never tried again")
}

func TestRequestsAreSharedAmongInstances(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	var hits [3]atomic.Int64
	for i, node := range []string{"a", "b", "c"} {
		world.Serve("web", node, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits[i].Add(1) }), "urlprefix-/web")
	}
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil)})
	for range 150 {
		l.get("/web")
	}
	for i := range hits {
		if n := hits[i].Load(); n < 15 {
			t.Errorf("instance %d got %d of 150 requests", i, n)
		}
	}
}

func TestPostWithoutABodyIsNotRepeatedEither(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	var hits atomic.Int64
	world.Serve("web", "web-1", breaking(&hits), "urlprefix-/web")
	world.Serve("web", "web-2", breaking(&hits), "urlprefix-/web")
	l := start(t, world, nil)
	if got := l.do("POST", "/web", ""); got.status != 502 || hits.Load() != 1 {
		t.Fatalf("%d after %d tries, want 502 after one", got.status, hits.Load())
	}
}
