package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"sluice/internal/meshtest"
	"sluice/mesh"
)

// faulty is a connection with a fault in one of its methods.
type faulty struct {
	net.Conn
	method string
}

func (f faulty) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if f.method == "Read" {
		panic("a fault")
	}
	return n, err
}

func (f faulty) Write(p []byte) (int, error) {
	if f.method == "Write" {
		panic("a fault")
	}
	return f.Conn.Write(p)
}

func (f faulty) Close() error {
	err := f.Conn.Close()
	if f.method == "Close" {
		panic("a fault")
	}
	return err
}

// A transport reads, writes and closes in goroutines of its own, so without the guard
// the whole test ends.
func TestAPanicBelowATransportIsAnErrorOfItsRequest(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	for _, method := range []string{"", "Read", "Write", "Close"} {
		var panics atomic.Int64
		transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			return &guardedConn{faulty{conn, method}, func(any) error { panics.Add(1); return errPanic }}, err
		}}
		response, err := (&http.Client{Transport: transport}).Post(server.URL, "text/plain", strings.NewReader("hello"))
		if err == nil {
			_ = response.Body.Close()
		}
		transport.CloseIdleConnections()
		if broken := method == "Read" || method == "Write"; broken != errors.Is(err, errPanic) {
			t.Errorf("a fault in %q: %v", method, err)
		}
		meshtest.Wait(t, "the panic is told", func() bool { return (panics.Load() > 0) == (method != "") })
	}
}

func TestTheTransportGetsGuardedConnections(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Allow("gateway", "web"))
	instance := world.Serve("web", "web-1", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	p := New(Config{Catalog: world.Catalog, Dialer: world.Dialer("gateway", nil), Policy: world.Policy})
	for _, m := range []manner{{}, {plain: true}} {
		conn, err := p.dialPending(t.Context(), &target{instance: instance, service: "web"}, m)
		if err != nil {
			t.Fatal(err)
		}
		guarded, ok := conn.(*guardedConn)
		if !ok {
			t.Fatalf("%+v: it is a %T", m, conn)
		}
		if _, meshed := guarded.NetConn().(*mesh.Conn); meshed == m.plain || meshed != (serialOf(conn) != "") {
			t.Errorf("%+v: below it is a %T, serial %q", m, guarded.NetConn(), serialOf(conn))
		}
		_ = conn.Close()
	}
}
