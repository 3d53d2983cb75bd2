package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

// TestStreamsOutliveTheLimitsOfBodies holds for a connection that was upgraded, as a
// WebSocket is, and for server-sent events: both may be silent.
func TestStreamsOutliveTheLimitsOfBodies(t *testing.T) {
	const limit, timeout = 40 * time.Millisecond, time.Second
	silence := func() { <-time.After(timeout * 3 / 2) }
	left := make(chan struct{})
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			if r.URL.Path == "/web/left" {
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
				close(left)
				return
			}
			for range 2 {
				_, _ = fmt.Fprint(w, "data: x\n\n")
				_ = http.NewResponseController(w).Flush()
				silence()
			}
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.CopyN(conn, conn, 2)
	}, "urlprefix-/web")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, BodyIdle: limit, MinBodyRate: 1 << 30, Timeout: timeout})
	address := strings.TrimPrefix(listenWith(t, l.Proxy, proxy.OwnConfig{BodyIdle: limit, MinBodyRate: 1 << 30}), "http://")

	t.Run("upgraded", func(t *testing.T) {
		t.Parallel()
		conn, reader := opened(t, address, "GET /web/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		response, err := http.ReadResponse(reader, nil)
		if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%+v, %v", response, err)
		}
		for _, text := range []string{"a", "b"} {
			silence()
			_, _ = io.WriteString(conn, text)
			if got, err := reader.ReadByte(); err != nil || string(got) != text {
				t.Fatalf("after a silence: %q, %v, want %q", got, err, text)
			}
		}
	})
	t.Run("events", func(t *testing.T) {
		t.Parallel()
		_, reader := opened(t, address, "GET /web/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n")
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(response.Body); err != nil || strings.Count(string(body), "data: x") != 2 {
			t.Errorf("%q, %v; want two events", body, err)
		}
	})
	t.Run("left", func(t *testing.T) {
		t.Parallel()
		conn, reader := opened(t, address, "GET /web/left HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := http.ReadResponse(reader, nil); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		select {
		case <-left:
		case <-time.After(20 * time.Second):
			t.Error("the instance of a silent stream never learned that its client has left")
		}
	})
}

// opened sends a request over a connection of its own.
func opened(t *testing.T, address, request string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}
