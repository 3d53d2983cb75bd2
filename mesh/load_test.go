package mesh_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/mesh"
)

// descriptors counts the open file descriptors of the process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// backToStart returns a function that waits until no goroutine and no descriptor
// is left over from what happens in between.
func backToStart(t *testing.T, server *destination, dialer *mesh.Dialer) (check func()) {
	t.Helper()
	// The first connection makes sure that all that stays is running.
	first := mustDial(t, dialer, server.instance())
	roundTrip(t, first, "first")
	_ = first.Close()
	eventually(t, "the first connection is gone", func() bool { return len(server.table.Connections()) == 0 })
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	return func() {
		t.Helper()
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("goroutines: %d, then %d; descriptors: %d, then %d", goroutines, runtime.NumGoroutine(), files, descriptors(t))
			}
		})
		eventually(t, "goroutines and descriptors are back to the start", func() bool {
			return runtime.NumGoroutine() <= goroutines && descriptors(t) <= files
		})
	}
}

func TestThousandsOfConnectionsComeAndGoAndLeaveNothing(t *testing.T) {
	const total, workers = comeAndGo, 16
	// The race detector slows the post-quantum key exchange tenfold, and which
	// one is used leaves nothing more or less behind.
	t.Setenv("GODEBUG", "tlsmlkem=0")
	w := newWorld(t)
	server := w.listen("web", allowing(allow("gateway", "web")), nil)
	server.echo(t)
	dialer, table := w.dialer("gateway", nil)
	check := backToStart(t, server, dialer)
	var next atomic.Int64
	var crowd sync.WaitGroup
	for range workers {
		crowd.Go(func() {
			for next.Add(1) <= total {
				conn, err := dialer.DialInstance(t.Context(), server.instance())
				if err != nil {
					t.Error(err)
					return
				}
				if err := tryRoundTrip(conn, "x"); err != nil {
					t.Error(err)
				}
				_ = conn.Close()
			}
		})
	}
	crowd.Wait()
	check()
	if in, out := server.table.Counters().Accepted, table.Counters().Dialled; in != total+1 || out != total+1 {
		t.Errorf("accepted %d, dialled %d", in, out)
	}
	t.Logf("%d connections came and went", total)
	if n := len(server.table.Connections()) + len(table.Connections()); n != 0 {
		t.Errorf("%d connections left in the tables", n)
	}
}

func TestThreeHundredHandshakesAtOnceAreAllServed(t *testing.T) {
	for name, limit := range map[string]int{"within the bound": 0, "beyond the bound": 64} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			server := w.listen("web", allowing(allow("gateway", "web")), func(c *mesh.ListenConfig) {
				c.MaxHandshakes = limit
				// A busy machine is no reason here to let anybody go.
				c.EvictionGrace, c.HandshakeTimeout = time.Minute, time.Minute
			})
			server.echo(t)
			dialer, _ := w.dialer("gateway", func(c *mesh.DialerConfig) { c.Timeout = 30 * time.Second })
			check := backToStart(t, server, dialer)
			start := make(chan struct{})
			var crowd sync.WaitGroup
			for range 300 {
				crowd.Go(func() {
					<-start
					conn, err := dialer.DialInstance(t.Context(), server.instance())
					if err != nil {
						t.Error(err)
						return
					}
					if err := tryRoundTrip(conn, "hello"); err != nil {
						t.Error(err)
					}
					_ = conn.Close()
				})
			}
			close(start)
			crowd.Wait()
			check()
			if c := server.table.Counters(); c.Accepted != 301 {
				t.Errorf("counters: %+v", c)
			}
		})
	}
}

// TestAThousandHalfOpenConnectionsDoNotKeepAClientOut opens twice as many
// connections as handshakes may be in flight, says nothing or half a hello on
// them, and dials as a legitimate client behind all of them.
func TestAThousandHalfOpenConnectionsDoNotKeepAClientOut(t *testing.T) {
	w := newWorld(t)
	server := w.listen("web", allowing(allow("gateway", "web")), func(c *mesh.ListenConfig) { c.HandshakeTimeout = time.Minute })
	server.echo(t)
	dialer, _ := w.dialer("gateway", func(c *mesh.DialerConfig) { c.Timeout = 30 * time.Second })
	check := backToStart(t, server, dialer)
	hello := clientHello(t)
	var idlers []net.Conn
	for i := range 1000 {
		conn, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		idlers = append(idlers, conn)
		// Every third one says a whole hello, and then nothing.
		if _, err := conn.Write(hello[:len(hello)*(i%3)/2]); err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Fatal(err)
		}
	}
	began := time.Now()
	conn := mustDial(t, dialer, server.instance())
	roundTrip(t, conn, "hello")
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("served after %s, want about the grace of a second", took)
	}
	if c := server.table.Counters(); c.Evicted == 0 {
		t.Errorf("nobody had to go: %+v", c)
	}
	_ = conn.Close()
	for _, conn := range idlers {
		_ = conn.Close()
	}
	check()
}

// failing is a socket that cannot accept for a while, for want of descriptors.
type failing struct {
	net.Listener
	left atomic.Int64
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return f.Listener.Accept()
}

func TestAcceptGoesOnAfterDescriptorsWereShort(t *testing.T) {
	w := newWorld(t)
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	short := &failing{Listener: socket}
	short.left.Store(4)
	policy := allowing(allow("gateway", "web"))
	table := mesh.NewTable(nil)
	l, err := mesh.NewListener(short, mesh.ListenConfig{
		Credentials: w.identity("web"), Table: table, DrainTimeout: -1,
		Authorizer: mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: "web", Policy: policy}),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &destination{Listener: l, table: table, id: w.id("web")}
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	d.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	d.handle(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
	dialer, _ := w.dialer("gateway", nil)
	roundTrip(t, mustDial(t, dialer, d.instance()), "hello")
	if c := table.Counters(); c.AcceptErrors != 4 {
		t.Errorf("counters: %+v", c)
	}
}
