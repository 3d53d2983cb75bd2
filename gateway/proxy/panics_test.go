package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

// panics is how many panics the gateway has counted.
func (l *lab) panics(t *testing.T) int {
	t.Helper()
	families, err := l.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if strings.HasSuffix(family.GetName(), "_panics_total") {
			return int(family.GetMetric()[0].GetCounter().GetValue())
		}
	}
	return 0
}

// fault is a dialer and a tracer with a fault while it is broken.
type fault struct {
	proxy.Dialer
	spans
	dialing, trying atomic.Bool
}

func (f *fault) DialInstance(ctx context.Context, instance mesh.Instance) (*mesh.Conn, error) {
	if f.dialing.Load() {
		panic("a fault in the dial")
	}
	return f.Dialer.DialInstance(ctx, instance)
}

func (f *fault) Begin(string, proxy.Traced) proxy.Span { return f }

func (f *fault) Try(proxy.Tried) (string, func(int, error)) {
	if f.trying.Load() {
		panic("a fault in an attempt")
	}
	return "", func(int, error) {}
}

func TestAPanicOutsideTheRequestsGoroutineEndsThatRequestAlone(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	for _, node := range []string{"web-1", "web-2"} {
		serve(world, "web", node, echo, "urlprefix-/hedged hedge=50ms")
	}
	f := &fault{Dialer: world.Dialer("gateway", nil)}
	l := with(t, world, proxy.Config{Dialer: f, Policy: world.Policy, Tracer: f})
	for _, name := range []string{"dial", "attempt"} { // the first one while no connection is kept
		broken := map[string]*atomic.Bool{"dial": &f.dialing, "attempt": &f.trying}[name]
		before := l.panics(t)
		broken.Store(true)
		if got := l.get("/hedged"); got.status != 500 || strings.Contains(got.body, "a fault in") {
			t.Errorf("%s: answered with %d %q, want 500 and nothing of the inside", name, got.status, got.body)
		}
		broken.Store(false)
		if n := l.panics(t) - before; n < 1 {
			t.Errorf("%s: the panic is not counted", name)
		}
		if got := l.get("/hedged"); got.status != 200 {
			t.Errorf("%s: the next request got %d %q", name, got.status, got.body)
		}
	}
	// A client may have the whole answer before the gateway has let go of the instance.
	meshtest.Wait(t, "nothing is in flight", func() bool { return l.inFlight("/hedged") == 0 })
	for _, r := range l.Routes().Routes {
		for _, i := range r.Instances {
			if i.Avoided {
				t.Errorf("an instance has to bear it: %+v", i)
			}
		}
	}
	meshtest.Wait(t, "no request is left with an instance", func() bool { return l.inFlight("/hedged") == 0 })
}

// tripping panics when the body of a request is read: behind its first bytes.
type tripping struct {
	net.Conn
	reads atomic.Int64
}

func (c *tripping) Read(p []byte) (int, error) {
	if c.reads.Add(1) > 1 {
		panic("a fault of ours")
	}
	return c.Conn.Read(p)
}

func (c *tripping) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

func TestAPanicWhileABodyIsSentEndsThatRequestAlone(t *testing.T) {
	onlyOwn(t)
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			t.Error("the instance takes the body for whole")
		}
	}, "urlprefix-/web")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy})
	l.impatient(t, proxy.OwnConfig{}, func(c net.Conn) net.Conn { return &tripping{Conn: c} })
	conn := l.dial(t)
	fmt.Fprint(conn, "POST /web HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhello")
	got, _ := io.ReadAll(io.LimitReader(conn, 12))
	if string(got) != "HTTP/1.1 500" {
		t.Errorf("answered with %q, want 500", got)
	}
	_ = conn.Close()
	if n := l.panics(t); n < 1 {
		t.Error("the panic is not counted")
	}
}

// faultyBody panics when it is read.
type faultyBody struct{}

func (faultyBody) Read([]byte) (int, error) { panic("a fault in a body") }
func (faultyBody) Close() error             { return nil }

func TestAPanicUnderNetHTTPEndsThatRequestAlone(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }, "urlprefix-/web")
	f := &fault{Dialer: world.Dialer("gateway", nil)}
	l := with(t, world, proxy.Config{Dialer: f, Policy: world.Policy, Tracer: f})
	var body atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body.Load() {
			r.Body = faultyBody{}
		}
		l.ServeHTTP(w, r)
	}))
	defer server.Close()
	for _, where := range []string{"body", "handler"} {
		before := l.panics(t)
		for _, test := range []struct {
			broken string
			want   int
		}{{where, 500}, {"", 200}} {
			body.Store(test.broken == "body")
			f.trying.Store(test.broken == "handler")
			response, err := http.Post(server.URL+"/web", "text/plain", strings.NewReader("hello"))
			if err != nil {
				t.Fatalf("fault in %q: %v", test.broken, err)
			}
			_ = response.Body.Close()
			if response.StatusCode != test.want {
				t.Errorf("fault in %q: answered with %d, want %d", test.broken, response.StatusCode, test.want)
			}
		}
		if n := l.panics(t) - before; n != 1 {
			t.Errorf("fault in %q: %d panics are counted", where, n)
		}
		meshtest.Wait(t, "no request is left with the instance", func() bool { return l.inFlight("/web") == 0 })
	}
}

// breakingWriter panics when its listener's connections do.
type breakingWriter struct {
	http.ResponseWriter
	client *breakingListener
}

func (w *breakingWriter) Write(p []byte) (int, error) {
	if w.client.writes.Load() {
		panic("a fault of ours in a write")
	}
	return w.ResponseWriter.Write(p)
}

func (w *breakingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// TestARequestThatAPanicHasEndedIsNoLongerWithItsInstance: else an instance with maxconn
// would be full for ever.
func TestARequestThatAPanicHasEndedIsNoLongerWithItsInstance(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) }, "urlprefix-/web")
	f := &fault{Dialer: world.Dialer("gateway", nil)}
	l := with(t, world, proxy.Config{Dialer: f, Policy: world.Policy, Tracer: f})
	client := &breakingListener{}
	if withStd() {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.ServeHTTP(&breakingWriter{w, client}, r) }))
		t.Cleanup(server.Close)
		l.url = server.URL
	} else {
		l.impatient(t, proxy.OwnConfig{}, func(c net.Conn) net.Conn { return &breakingConn{c, client} })
	}
	for where, broken := range map[string]*atomic.Bool{"an attempt": &f.trying, "the answer": &client.writes} {
		before := l.panics(t)
		broken.Store(true)
		conn := l.dial(t)
		fmt.Fprint(conn, "GET /web HTTP/1.1\r\nHost: x\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
		broken.Store(false)
		// The connection may end before the rest is done.
		meshtest.Wait(t, "a fault in "+where+" is counted", func() bool { return l.panics(t) > before })
		meshtest.Wait(t, "after a fault in "+where+" the instance has no request", func() bool { return l.inFlight("/web") == 0 })
		if n := l.panics(t) - before; n != 1 {
			t.Errorf("a fault in %s: %d panics are counted", where, n)
		}
	}
}
