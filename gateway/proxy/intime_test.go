package proxy_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

// swallowing is a network that swallows connections while it is told to.
type swallowing struct {
	proxy.Dialer
	on    atomic.Bool
	taken atomic.Int64
}

func (s *swallowing) DialInstance(ctx context.Context, instance mesh.Instance) (*mesh.Conn, error) {
	if !s.on.Load() {
		return s.Dialer.DialInstance(ctx, instance)
	}
	s.taken.Add(1)
	<-ctx.Done()
	return nil, ctx.Err()
}

// tries is how often something is timed: a machine with other work may sleep.
const tries = 6

// TestTheTimeOfARequestHoldsForWhatIsDoneBesideItsAttempts: a look for a denial takes up
// to 1 s, and a wait for other instances 300 ms.
func TestTheTimeOfARequestHoldsForWhatIsDoneBesideItsAttempts(t *testing.T) {
	t.Run("a look why the connection broke", func(t *testing.T) {
		world := meshtest.New(t)
		world.Policy.Set(allowWeb)
		instanceOf(world, "web-1", func(conn net.Conn) {
			for requests := bufio.NewReader(conn); ; {
				request, err := http.ReadRequest(requests)
				if err != nil || request.Method == http.MethodPost {
					return
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}, "urlprefix-/web timeout=300ms")
		network := &swallowing{Dialer: world.Dialer("gateway", nil)}
		l := with(t, world, proxy.Config{Dialer: network, Policy: world.Policy, Ejection: balance.Ejection{Origin: -1, Local: -1}})
		best := time.Hour
		for range tries {
			network.on.Store(false)
			meshtest.Wait(t, "a connection is kept", func() bool { return l.get("/web").status == http.StatusOK })
			network.on.Store(true)
			before, began := network.taken.Load(), time.Now()
			if got := l.do(http.MethodPost, "/web", ""); got.status < 500 {
				t.Fatal(got.status)
			}
			if network.taken.Load() > before { // else the end of the connection came too late
				best = min(best, time.Since(began))
			}
		}
		if best > 900*time.Millisecond {
			t.Errorf("the answer took %v, and may take 300ms", best)
		}
	})
	t.Run("a wait for other instances", func(t *testing.T) {
		world := meshtest.New(t)
		world.Policy.Set(allowWeb)
		for _, node := range []string{"web-1", "web-2"} {
			world.Catalog.Add(world.Instance("web", node, refusing(t), "urlprefix-/web timeout=100ms"))
		}
		l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Ejection: balance.Ejection{Local: -1}})
		meshtest.Wait(t, "both are there", func() bool { return len(l.Table().Routes()[0].Instances) == 2 })
		best := time.Hour
		for range tries {
			began := time.Now()
			got := l.get("/web")
			if best = min(best, time.Since(began)); got.status < 500 {
				t.Fatal(got.status)
			}
		}
		if best > 250*time.Millisecond {
			t.Errorf("the answer took %v, and may take 100ms", best)
		}
	})
}
