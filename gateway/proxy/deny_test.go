package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"sluice/gateway/proxy"
	"sluice/gateway/tcp"
	"sluice/internal/meshtest"
)

const (
	// denyBar is within what a deny has to end whatever goes on with a service.
	denyBar = 250 * time.Millisecond
	// denyRounds is how often it is tried: a machine with other work may sleep once.
	denyRounds = 4
)

// TestADenyEndsWhatGoesOnWithin250ms begins something with a service, denies it, and
// waits for its end where it is seen: at the client, or at the instance.
func TestADenyEndsWhatGoesOnWithin250ms(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Allow("*", "*")) // the instances do nothing about it
	own := meshtest.NewPolicy()
	allow := func() { own.Set(meshtest.Allow("gateway", "*")) }
	allow()
	world.Serve("web", "web-1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}), "urlprefix-/stream")
	world.Serve("web", "web-2", switching(t), "urlprefix-/web")
	idle := make(chan struct{}, 1)
	listener := world.Listen("idle", world.Policy)
	attend(world, "instance", listener, func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		for {
			if _, err := http.ReadRequest(reader); err != nil {
				break
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
		select {
		case idle <- struct{}{}:
		default: // one end is enough to be told of, and nobody may be left who asks
		}
	})
	world.Catalog.Add(world.Instance("idle", "i-1", listener.Addr().String(), "urlprefix-/idle"))
	bound, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(bound.Addr().String())
	echoing(t, world, "db-1", "urlprefix-:"+port)
	table := tcp.NewTable(nil)
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", own), Policy: own, Streams: table})
	world.Run("streams", func(ctx context.Context) error {
		return tcp.New(tcp.Config{Route: l.RouteStream, Table: table}).Serve(ctx, bound)
	})

	for what, begin := range map[string]func() (end func()){
		"an answer that is streamed": func() func() {
			conn := l.dial(t)
			fmt.Fprint(conn, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
			reader := bufio.NewReader(conn)
			response, err := http.ReadResponse(reader, nil)
			if err != nil || response.StatusCode != http.StatusOK {
				t.Fatalf("%v, %v", response, err)
			}
			return func() { _, _ = io.Copy(io.Discard, response.Body) }
		},
		"a switched protocol": func() func() {
			_, reader := switched(t, l.url, "")
			return func() { _, _ = io.Copy(io.Discard, reader) }
		},
		"a TCP connection": func() func() {
			conn, err := net.Dial("tcp", bound.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			speaks(t, conn)
			return func() { _, _ = io.Copy(io.Discard, conn) }
		},
		"a connection that is kept": func() func() {
			if got := l.get("/idle"); got.status != http.StatusOK {
				t.Fatal(got.status)
			}
			return func() { <-idle }
		},
	} {
		best := time.Hour
		for range denyRounds {
			allow()
			end := begin()
			began := time.Now()
			own.Set()
			end()
			if best = min(best, time.Since(began)); best <= denyBar {
				break
			}
		}
		if t.Logf("%s ends after %v", what, best.Round(time.Microsecond)); best > denyBar {
			t.Errorf("%s ends %v after the deny, want at most %v", what, best, denyBar)
		}
	}
}
