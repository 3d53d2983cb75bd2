package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/override"
	"sluice/gateway/proxy"
	"sluice/gateway/route"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

// ledger is a catalog that knows indexes, and why instances are out.
type ledger struct {
	proxy.Catalog
	index atomic.Uint64
	mu    sync.Mutex
	why   []proxy.Absent
	err   error
}

func (l *ledger) Index(string) uint64 { return l.index.Load() }

// out is what is unhealthy from now on, and the index of the change.
func (l *ledger) out(index uint64, err error, why ...proxy.Absent) {
	l.index.Store(index)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.why, l.err = why, err
}

func (l *ledger) absent(context.Context, string) ([]proxy.Absent, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why, l.err
}

// traced are credentials that tell where they are from.
type traced struct {
	rotating
	mu      sync.Mutex
	from    mesh.Provenance
	changed chan struct{}
}

func (c *traced) Provenance() mesh.Provenance {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.from
}

func (c *traced) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *traced) renew(credentials mesh.Credentials, from mesh.Provenance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Store(&credentials)
	c.from = from
	if c.changed != nil {
		close(c.changed)
	}
	c.changed = make(chan struct{})
}

// indexed are overrides that know their index.
type indexed struct {
	ruling
	index atomic.Uint64
}

func newIndexed() *indexed { return &indexed{ruling: ruling{newStage()}} }

func (i *indexed) Index() uint64 { return i.index.Load() }

func (i *indexed) set(index uint64, rules route.Rules) {
	i.index.Store(index)
	i.ruling.set(rules)
}

// event waits for an event of a kind with a text, and returns it.
func event(t *testing.T, p *proxy.Proxy, kind string, texts ...string) (found proxy.Event) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("the timeline: %+v", p.Events())
		}
	}()
	meshtest.Wait(t, fmt.Sprintf("the timeline tells %s %q", kind, texts), func() bool {
		for _, e := range p.Events() {
			all := e.Kind == kind
			for _, text := range texts {
				all = all && strings.Contains(e.Subject+" "+e.Text, text)
			}
			if all {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// at fails unless an event has the index, and was applied within a second after news
// that came after began.
func at(t *testing.T, e proxy.Event, index uint64, began time.Time) {
	t.Helper()
	if e.Index != index {
		t.Errorf("%+v: index %d, want %d", e, e.Index, index)
	}
	if e.At.Before(began) || e.At.After(time.Now()) || e.Effect < 0 || e.Effect > time.Since(began) {
		t.Errorf("%+v: applied at %v within %v, and the news came after %v", e, e.At, e.Effect, began)
	}
}

func TestTheTimelineTellsHealthWithItsReasonAndIndex(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	catalog := &ledger{Catalog: world.Catalog}
	catalog.index.Store(7)
	serve(world, "web", "web-1", hello, "urlprefix-/web")
	second := serve(world, "web", "web-2", hello, "urlprefix-/web")
	p := proxy.New(proxy.Config{Catalog: catalog, Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Absent: catalog.absent})
	world.Run("gateway", p.Run)
	at(t, event(t, p, "route", "/web", "new: "), 7, time.Time{})
	for _, e := range p.Events() {
		if e.Kind == "health" {
			t.Errorf("what was there from the begin is told as a change: %+v", e)
		}
	}

	for i, c := range []struct {
		err  error
		why  []proxy.Absent
		want string
	}{
		{nil, []proxy.Absent{{Instance: "web-web-1", Node: "web-1", Why: "not this"}, {Instance: second.ServiceID, Node: "web-2", Why: `check "up" is critical: no`}}, `check "up" is critical: no`},
		{nil, nil, "it is not in the catalog any more"},
		{errors.New("nobody answers"), nil, "why is not known: nobody answers"},
	} {
		began, index := time.Now(), uint64(10*i+10)
		catalog.out(index, c.err, c.why...)
		world.Catalog.Remove(second)
		at(t, event(t, p, "health", "web-web-2 on web-2", "picked no more", c.want), index, began)
		at(t, event(t, p, "route", "/web", "- web-web-2 on web-2"), 10, time.Time{})
		catalog.index.Store(index + 5)
		world.Catalog.Add(second)
		meshtest.Wait(t, "it is told that it is back", func() bool {
			events := p.Events()
			last := events[len(events)-1]
			return last.Kind == "health" && last.Index == index+5 && last.Text == "healthy: it is picked from now on"
		})
	}
}

func TestTheTimelineTellsMovesOnceAndManyChangesTogether(t *testing.T) {
	world, catalog := meshtest.New(t), newStage()
	list := func(n int, port string) (instances []mesh.Instance) {
		for i := range n {
			instances = append(instances, world.Instance("web", fmt.Sprint("n", i), "127.0.0.1:"+port, "urlprefix-/web"))
		}
		return instances
	}
	catalog.set("web", list(1, "1"))
	p := catalog.playedBy(t, world, time.Now)
	meshtest.Wait(t, "the route is there", func() bool { return p.Table().Len() == 1 })
	catalog.set("web", list(1, "2"))
	event(t, p, "health", "web-n0 on n0", "it is at 127.0.0.1:2 now, and was at 127.0.0.1:1")
	catalog.set("web", list(9, "2"))
	event(t, p, "health", "8 instances", "healthy", "and 3 more")
	catalog.set("web", list(1, "2"))
	event(t, p, "health", "8 instances", "picked no more", "and 3 more")
	count := 0
	for _, e := range p.Events() {
		if e.Kind == "health" {
			count++
		}
	}
	if count != 3 {
		t.Errorf("%d changes of health are told, want 3: %+v", count, p.Events())
	}
}

func TestTheTimelineTellsEjectionAndReturn(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	var broken atomic.Bool
	broken.Store(true)
	serve(world, "web", "web-1", func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}, "urlprefix-/web")
	serve(world, "web", "web-2", hello, "urlprefix-/web")
	l := with(t, world, proxy.Config{
		Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Strategy: "rr",
		Ejection: balance.Ejection{Origin: 3, Base: 20 * time.Millisecond},
	})
	requests := func(until func() bool) {
		t.Helper()
		meshtest.Wait(t, "requests bring it about", func() bool { l.get("/web"); return until() })
	}
	tells := func(text string) func() bool {
		return func() bool {
			for _, e := range l.Events() {
				if e.Kind == "ejection" && e.Subject == "web-web-1 on web-1" && strings.Contains(e.Text, text) {
					return true
				}
			}
			return false
		}
	}
	requests(tells("failures in a row: 0 to connect, 3 of its answers"))
	requests(tells("its trial failed"))
	broken.Store(false)
	requests(tells("back: a request that was its trial succeeded"))
}

func TestTheTimelineTellsCredentialsIntentionsAndOverrides(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", hello, "urlprefix-/web")
	fresh := func() mesh.Credentials {
		c, err := world.Credentials("gateway").Credentials()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	credentials, rules := &traced{}, newIndexed()
	first := fresh()
	credentials.renew(first, mesh.Provenance{LeafIndex: 3, RootsIndex: 4, RootIDs: []string{"old"}})
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Credentials: credentials, Overrides: rules})
	event(t, l.Proxy, "intention", "gateway -> web: allow; default deny")

	began := time.Now()
	credentials.renew(fresh(), mesh.Provenance{LeafIndex: 20, RootsIndex: 4, RootIDs: []string{"old"}})
	at(t, event(t, l.Proxy, "leaf", "connections with the old one"), 20, began)
	began = time.Now()
	renewed, other := *credentials.Load(), meshtest.New(t)
	foreign, err := other.Credentials("gateway").Credentials()
	if err != nil {
		t.Fatal(err)
	}
	renewed.Roots = foreign.Roots
	credentials.renew(renewed, mesh.Provenance{LeafIndex: 20, RootsIndex: 30, RootIDs: []string{"new", "old"}})
	at(t, event(t, l.Proxy, "root", "trusted roots", "+ new"), 30, began)

	began = time.Now()
	world.Policy.Set(allowWeb, meshtest.Deny("gateway", "shop"))
	at(t, event(t, l.Proxy, "intention", "+ gateway -> shop: deny"), 2, began)
	world.Policy.Set(allowWeb)
	at(t, event(t, l.Proxy, "intention", "- gateway -> shop: deny"), 3, began)

	began = time.Now()
	rules.set(40, override.Parse(override.Config{}, override.Source{Name: "k", Text: "route del web /web\nnonsense"}))
	at(t, event(t, l.Proxy, "override", "1 command holds; lines that are ignored: 1"), 40, began)
	at(t, event(t, l.Proxy, "route", "/web", "forgotten"), 40, began)
	rules.set(50, nil)
	at(t, event(t, l.Proxy, "override", "there are none any more"), 50, began)
}
