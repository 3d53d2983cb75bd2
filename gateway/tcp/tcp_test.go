package tcp_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sluice/gateway/tcp"
	"sluice/internal/testca"
	"sluice/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ended is what a server said of a connection.
type ended struct {
	info tcp.Info
	err  error
}

// gate is a running server and what it told.
type gate struct {
	*tcp.Server
	addr string
	ends chan ended
	stop func() error
}

// start runs a server on a loopback port.
func start(t testing.TB, cfg tcp.Config) *gate {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{addr: listener.Addr().String(), ends: make(chan ended, 100)}
	cfg.Ended = func(info tcp.Info, err error) { g.ends <- ended{info, err} }
	g.Server = tcp.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Serve(ctx, listener) }()
	g.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = g.stop() })
	return g
}

func (g *gate) dial(t testing.TB) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

// ending waits for the next connection to end.
func (g *gate) ending(t *testing.T) ended {
	t.Helper()
	select {
	case e := <-g.ends:
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("no connection has ended")
		return ended{}
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// instance is a server that handles each connection.
func instance(t testing.TB, handle func(*net.TCPConn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				handle(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { _ = listener.Close(); work.Wait() })
	return listener.Addr().String()
}

// echo sends back what comes, and its end too.
func echo(conn *net.TCPConn) {
	_, _ = io.Copy(conn, conn)
	_ = conn.CloseWrite()
}

// to is a router to one address.
func to(address string) tcp.Router {
	return func(context.Context, tcp.Call) (tcp.Target, error) { return target(address), nil }
}

func target(address string) tcp.Target {
	return tcp.Target{Service: "db", Instance: address, Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}}
}

// A connection of the mesh is cut, and half closed, by these two.
var _ interface {
	Cut(reason string)
	CloseWrite() error
} = (*mesh.Conn)(nil)

// wrapped hides that a connection is a socket, as TLS does.
type wrapped struct{ net.Conn }

func (w wrapped) CloseWrite() error     { return w.Conn.(*net.TCPConn).CloseWrite() }
func (w wrapped) SetLinger(s int) error { return w.Conn.(*net.TCPConn).SetLinger(s) }

// through is a router to one address, to which the kernel may copy by itself, or not.
func through(address string, kernel bool) tcp.Router {
	if kernel {
		return to(address)
	}
	return func(context.Context, tcp.Call) (tcp.Target, error) {
		target := target(address)
		dial := target.Dial
		target.Dial = func(ctx context.Context) (net.Conn, error) {
			conn, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			return wrapped{conn}, nil
		}
		return target, nil
	}
}

func TestEveryByteArrivesBothWaysWithAndWithoutTheKernel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	address := instance(t, echo)
	for _, kernel := range []bool{true, false} {
		g := start(t, tcp.Config{Idle: time.Minute, Route: through(address, kernel)})
		for _, size := range []int{0, 1, 4095, 4096, 4097, 70_000, 5_000_000} {
			data := make([]byte, size)
			_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(size)}).Read(data)
			conn := g.dial(t)
			go func() {
				for rest := data; len(rest) > 0; {
					n := min(len(rest), 1+int(rest[0])*1000)
					if _, err := conn.Write(rest[:n]); err != nil {
						break
					}
					rest = rest[n:]
				}
				_ = conn.CloseWrite()
			}()
			back, err := io.ReadAll(conn)
			if err != nil || sha256.Sum256(back) != sha256.Sum256(data) {
				t.Fatalf("kernel %t, %d bytes: %d came back, %v", kernel, size, len(back), err)
			}
			e := g.ending(t)
			if e.err != nil || e.info.BytesIn != uint64(size) || e.info.BytesOut != uint64(size) {
				t.Errorf("kernel %t, %d bytes: ended with %+v, %v", kernel, size, e.info, e.err)
			}
		}
	}
}

func TestHalfCloseOfOneSideLeavesTheOtherDirectionOpen(t *testing.T) {
	address := instance(t, func(conn *net.TCPConn) {
		request, _ := io.ReadAll(conn) // until the client's half-close
		_, _ = fmt.Fprintf(conn, "%d bytes", len(request))
	})
	g := start(t, tcp.Config{Route: to(address)})
	conn := g.dial(t)
	_, _ = io.WriteString(conn, "request")
	_ = conn.CloseWrite()
	if answer, err := io.ReadAll(conn); err != nil || string(answer) != "7 bytes" {
		t.Errorf("answer %q, %v", answer, err)
	}
}

func TestResetOfOneSideResetsTheOther(t *testing.T) {
	address := instance(t, func(conn *net.TCPConn) {
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.SetLinger(0)
	})
	g := start(t, tcp.Config{Route: to(address)})
	conn := g.dial(t)
	_, _ = conn.Write([]byte("x"))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client sees %v", err)
	}
	if e := g.ending(t); !errors.Is(e.err, syscall.ECONNRESET) {
		t.Errorf("ended with %v", e.err)
	}
}

func TestCutResetsTheConnectionsOfOneInstanceAtOnce(t *testing.T) {
	sick, well := instance(t, echo), instance(t, echo)
	addresses := make(chan string, 6)
	g := start(t, tcp.Config{Route: func(context.Context, tcp.Call) (tcp.Target, error) {
		return target(<-addresses), nil
	}})
	conns := map[string][]*net.TCPConn{}
	for i := range cap(addresses) {
		address := []string{sick, well}[i%2]
		addresses <- address
		conn := g.dial(t)
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		conns[address] = append(conns[address], conn)
	}
	begin := time.Now()
	n := g.Table().CutWhere("the instance is unhealthy", func(info tcp.Info) bool { return info.Instance == sick })
	if n != len(conns[sick]) {
		t.Errorf("cut %d, want %d", n, len(conns[sick]))
	}
	for _, conn := range conns[sick] {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a client of the sick instance sees %v", err)
		}
		if e := g.ending(t); !errors.Is(e.err, tcp.ErrCut) || !strings.Contains(e.err.Error(), "unhealthy") || e.info.Instance != sick {
			t.Errorf("ended with %+v, %v", e.info, e.err)
		}
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	for _, conn := range conns[well] {
		_, _ = conn.Write([]byte("y"))
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Errorf("a client of the other instance sees %v", err)
		}
	}
	if counters := g.Table().Counters(); counters.Cut != uint64(n) {
		t.Errorf("counters %+v", counters)
	}
}

func TestConnectionThatIsBeingDialledIsCutToo(t *testing.T) {
	dialling := make(chan struct{})
	g := start(t, tcp.Config{Route: func(context.Context, tcp.Call) (tcp.Target, error) {
		return tcp.Target{Service: "db", Instance: "db-1", Dial: func(ctx context.Context) (net.Conn, error) {
			close(dialling)
			<-ctx.Done()
			return nil, ctx.Err()
		}}, nil
	}})
	g.dial(t)
	<-dialling
	if n := g.Table().CutWhere("gone", func(info tcp.Info) bool { return info.Service == "db" }); n != 1 {
		t.Errorf("cut %d", n)
	}
	if e := g.ending(t); !errors.Is(e.err, tcp.ErrCut) {
		t.Errorf("ended with %v", e.err)
	}
}

func TestTargetThatWentWhileItWasChosenIsNotDialled(t *testing.T) {
	g := start(t, tcp.Config{Route: func(context.Context, tcp.Call) (tcp.Target, error) {
		return tcp.Target{
			Instance: "db-1", Current: func() bool { return false },
			Dial: func(context.Context) (net.Conn, error) { t.Error("dialled"); return nil, net.ErrClosed },
		}, nil
	}})
	if conn, err := net.Dial("tcp", g.addr); err == nil { // the reset may be faster
		defer conn.Close()
	}
	if e := g.ending(t); !errors.Is(e.err, tcp.ErrCut) {
		t.Errorf("ended with %v", e.err)
	}
}

func TestLimitsRefuseWhatIsBeyondThem(t *testing.T) {
	address := instance(t, echo)
	limited := func(context.Context, tcp.Call) (tcp.Target, error) {
		target := target(address)
		target.Limit = 2
		return target, nil
	}
	for _, test := range []struct {
		name string
		cfg  tcp.Config
		got  func(tcp.Counters) uint64
	}{
		{"of the listener", tcp.Config{Route: to(address), MaxConns: 2}, func(c tcp.Counters) uint64 { return c.Refused }},
		{"of the instance", tcp.Config{Route: limited}, func(c tcp.Counters) uint64 { return c.Overflow }},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := start(t, test.cfg)
			for range 2 {
				conn := g.dial(t)
				_, _ = conn.Write([]byte("x"))
				if _, err := conn.Read(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				defer func() {
					_ = conn.Close()
				}()
			}
			third, err := net.Dial("tcp", g.addr)
			if err == nil { // the reset may be faster
				defer third.Close()
				_, err = third.Read(make([]byte, 1))
			}
			if err == nil {
				t.Error("the third got an answer")
			}
			if n := test.got(g.Table().Counters()); n != 1 {
				t.Errorf("counted %d", n)
			}
			for _, info := range g.Table().Connections() {
				g.Table().CutWhere("room", func(other tcp.Info) bool { return other.ID == info.ID })
			}
			eventually(t, "they are gone", func() bool { return len(g.Table().Connections()) == 0 })
			conn := g.dial(t)
			_, _ = conn.Write([]byte("x"))
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				t.Errorf("after the others have gone: %v", err)
			}
		})
	}
}

func TestServerNameChoosesTheTargetAndTLSPassesUntouched(t *testing.T) {
	certificate := testca.NewRoot(t, "example").Leaf(t, testca.Leaf{Datacenter: "dc1", Service: "web"})
	secure := func(name string) string {
		return instance(t, func(conn *net.TCPConn) {
			session := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*certificate}})
			_, _ = io.WriteString(session, name)
			_ = session.CloseWrite()
			_, _ = io.Copy(io.Discard, session)
		})
	}
	addresses := map[string]string{"a.example": secure("this is a"), "b.example": secure("this is b")}
	var fallen []byte
	passed := make(chan struct{}, 10)
	g := start(t, tcp.Config{
		ServerName: true, HelloTimeout: 200 * time.Millisecond,
		Route: func(_ context.Context, call tcp.Call) (tcp.Target, error) {
			if address := addresses[call.ServerName]; address != "" {
				return target(address), nil
			}
			return tcp.Target{}, fmt.Errorf("%w: %q", tcp.ErrNoRoute, call.ServerName)
		},
		Fallback: func(conn net.Conn) {
			fallen = make([]byte, 5)
			_, _ = io.ReadFull(conn, fallen)
			_ = conn.Close()
			passed <- struct{}{}
		},
	})
	for _, name := range []string{"a", "b"} {
		session := tls.Client(g.dial(t), &tls.Config{ServerName: name + ".example", InsecureSkipVerify: true})
		if answer, err := io.ReadAll(session); err != nil || string(answer) != "this is "+name {
			t.Errorf("%s: %q, %v", name, answer, err)
		}
		_ = session.Close()
		if e := g.ending(t); e.err != nil || e.info.ServerName != name+".example" {
			t.Errorf("%s: %+v, %v", name, e.info, e.err)
		}
	}
	for _, data := range [][]byte{hello(t, "other.example"), []byte("GET / HTTP/1.1\r\n")} {
		_, _ = g.dial(t).Write(data)
		<-passed
		if !bytes.Equal(fallen, data[:5]) {
			t.Errorf("the fallback got %q, want %q", fallen, data[:5])
		}
	}
	slow := g.dial(t)
	_, _ = slow.Write(hello(t, "a.example")[:20])
	if _, err := slow.Read(make([]byte, 1)); err == nil {
		t.Error("half a hello got an answer")
	}
	if counters := g.Table().Counters(); counters.PassedOn != 2 || counters.Malformed != 1 {
		t.Errorf("counters %+v", counters)
	}
}

func TestHandoffServesWhatItIsGiven(t *testing.T) {
	handoff := tcp.NewHandoff(&net.TCPAddr{Port: 443})
	ours, theirs := net.Pipe()
	go handoff.Give(theirs)
	conn, err := handoff.Accept()
	if err != nil || conn != theirs {
		t.Fatalf("got %v, %v", conn, err)
	}
	_ = handoff.Close()
	if _, err := handoff.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
	handoff.Give(theirs)
	if _, err := ours.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("what is given after Close is left open: %v", err)
	}
}

func TestProxyHeaderComesFirst(t *testing.T) {
	address := instance(t, echo)
	g := start(t, tcp.Config{Route: func(context.Context, tcp.Call) (tcp.Target, error) {
		target := target(address)
		target.SendProxy = true
		return target, nil
	}})
	conn := g.dial(t)
	_, _ = io.WriteString(conn, "hello")
	_ = conn.CloseWrite()
	client, server := conn.LocalAddr().(*net.TCPAddr), conn.RemoteAddr().(*net.TCPAddr)
	want := fmt.Sprintf("PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\nhello", client.Port, server.Port)
	if got, err := io.ReadAll(conn); err != nil || string(got) != want {
		t.Errorf("the instance got %q, %v, want %q", got, err, want)
	}
}

func TestStopWaitsForConnectionsAndCutsWhatIsLeft(t *testing.T) {
	address := instance(t, echo)
	for _, test := range []struct {
		name  string
		drain time.Duration
		end   bool
	}{{"ends by itself", time.Minute, true}, {"is cut", 50 * time.Millisecond, false}} {
		t.Run(test.name, func(t *testing.T) {
			g := start(t, tcp.Config{Route: to(address), Drain: test.drain})
			conn := g.dial(t)
			_, _ = conn.Write([]byte("x"))
			_, _ = conn.Read(make([]byte, 1))
			stopped := make(chan error, 1)
			go func() { stopped <- g.stop() }()
			eventually(t, "nobody listens", func() bool {
				late, err := net.Dial("tcp", g.addr)
				if err == nil {
					_ = late.Close()
				}
				return err != nil
			})
			if test.end {
				_, _ = conn.Write([]byte("y"))
				if _, err := conn.Read(make([]byte, 1)); err != nil {
					t.Errorf("while draining: %v", err)
				}
				_ = conn.CloseWrite()
			}
			_, err := io.ReadAll(conn)
			if (err == nil) != test.end {
				t.Errorf("the client sees %v", err)
			}
			if err := <-stopped; err != nil {
				t.Error(err)
			}
		})
	}
}

// memory is a listener of connections that are made in memory.
type memory chan net.Conn

func (m memory) Accept() (net.Conn, error) {
	conn, ok := <-m
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (m memory) Close() error { defer func() { _ = recover() }(); close(m); return nil }
func (memory) Addr() net.Addr { return &net.TCPAddr{} }

func TestIdleConnectionEndsAndABusyOneDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := make(chan ended, 2)
		server := tcp.New(tcp.Config{
			Idle: 10 * time.Second, Ended: func(info tcp.Info, err error) { ends <- ended{info, err} },
			Route: func(context.Context, tcp.Call) (tcp.Target, error) {
				return tcp.Target{Dial: func(context.Context) (net.Conn, error) {
					near, far := net.Pipe()
					go func() { _, _ = io.Copy(io.Discard, far) }()
					return near, nil
				}}, nil
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		listener, done := make(memory), make(chan error, 1)
		go func() { done <- server.Serve(ctx, listener) }()
		client, accepted := net.Pipe()
		listener <- accepted
		// One direction that moves keeps both alive.
		for range 20 {
			time.Sleep(9 * time.Second) // virtual
			if _, err := client.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		quiet := time.Now()
		e := <-ends
		if took := time.Since(quiet); !errors.Is(e.err, tcp.ErrIdle) || took < 10*time.Second || took > 12500*time.Millisecond {
			t.Errorf("ended after %s with %v", took, e.err)
		}
		if e.info.BytesIn != 20 || server.Table().Counters().Idle != 1 {
			t.Errorf("ended with %+v, %+v", e.info, server.Table().Counters())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
