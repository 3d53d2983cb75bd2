package proxy_test

import (
	"context"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/budget"
	"sluice/gateway/proxy"
	"sluice/gateway/tcp"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

// hole is a network in which what is sent to one address vanishes.
type hole struct {
	proxy.Dialer
	address string
	limit   time.Duration
	asked   atomic.Int64
}

func (h *hole) DialInstance(ctx context.Context, instance mesh.Instance) (*mesh.Conn, error) {
	if instance.Address != h.address {
		return h.Dialer.DialInstance(ctx, instance)
	}
	h.asked.Add(1)
	timer := time.NewTimer(h.limit)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, mesh.ErrTimeout
	}
}

// ejected reports whether the instance at an address is left out because it fails.
func (l *lab) ejected(address string) bool {
	for _, r := range l.Routes().Routes {
		for _, i := range r.Instances {
			if i.Address == address && i.Avoided {
				return true
			}
		}
	}
	return false
}

func TestAnInstanceThatSwallowsConnectionsIsEjectedThoughItsClientsAreImpatient(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", echo, "urlprefix-/web")
	instance := serve(world, "web", "web-2", echo, "urlprefix-/web")
	network := &hole{Dialer: world.Dialer("gateway", nil), address: instance.Address, limit: 200 * time.Millisecond}
	l := with(t, world, proxy.Config{Dialer: network, Policy: world.Policy, Ejection: balance.Ejection{Local: 1, Percent: 50}})
	meshtest.Wait(t, "the instance is ejected", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		request, _ := http.NewRequestWithContext(ctx, http.MethodGet, l.url+"/web", nil)
		if response, err := l.client.Do(request); err == nil {
			_ = response.Body.Close()
		}
		return l.ejected(instance.Address)
	})
}

func TestAnInstanceThatSwallowsConnectionsIsEjectedThoughHedgesAreFaster(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", echo, "urlprefix-/web hedge=5ms")
	instance := serve(world, "web", "web-2", echo, "urlprefix-/web hedge=5ms")
	network := &hole{Dialer: world.Dialer("gateway", nil), address: instance.Address, limit: 200 * time.Millisecond}
	l := with(t, world, proxy.Config{Dialer: network, Policy: world.Policy, Budget: budget.Config{Ratio: 1, PerSecond: 1000}, Ejection: balance.Ejection{Local: 1, Percent: 50}})
	meshtest.Wait(t, "the instance is ejected", func() bool {
		if got := l.get("/web"); got.status != 200 && network.asked.Load() < 3 {
			t.Errorf("answered with %d, though the other instance is well", got.status)
		}
		return l.ejected(instance.Address)
	})
}

func TestADialThatNobodyWaitsForEndsWithTheGateway(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	instance := serve(world, "web", "web-1", echo, "urlprefix-/web")
	network := &hole{Dialer: world.Dialer("gateway", nil), address: instance.Address, limit: time.Hour}
	p := proxy.New(proxy.Config{Catalog: world.Catalog, Dialer: network, Policy: world.Policy})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = p.Run(ctx) }()
	meshtest.Wait(t, "the route is there", func() bool { return len(p.Table().Routes()) > 0 })
	url := listen(t, p)
	leaving, leave := context.WithCancel(t.Context())
	request, _ := http.NewRequestWithContext(leaving, http.MethodGet, url+"/web", nil)
	left := make(chan struct{})
	go func() {
		defer close(left)
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
		}
	}()
	meshtest.Wait(t, "the instance is dialled", func() bool { return network.asked.Load() > 0 })
	leave()
	within(t, left, "the client has left")
	stop()
	within(t, ended, "the gateway stops")
}

func TestAnInstanceThatSwallowsStreamsIsEjectedThoughItsListenerIsImpatient(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	instance := serve(world, "web", "web-1", echo, "urlprefix-:7000 proto=tcp")
	network := &hole{Dialer: world.Dialer("gateway", nil), address: instance.Address, limit: time.Hour}
	l := with(t, world, proxy.Config{Dialer: network, Policy: world.Policy, Ejection: balance.Ejection{Local: 1, Percent: 100}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	call := tcp.Call{Client: netip.MustParseAddrPort("127.0.0.1:1"), Server: netip.MustParseAddrPort("127.0.0.1:7000")}
	if _, err := l.RouteStream(ctx, call); err == nil {
		t.Error("the instance is reached")
	}
	if !l.ejected(instance.Address) {
		t.Error("the instance is not ejected")
	}
}
