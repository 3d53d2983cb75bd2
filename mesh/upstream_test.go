package mesh_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/mesh"
)

// upstream runs an upstream listener of source to the given instance. adjust may
// change both configurations.
func (w *world) upstream(source string, to mesh.Instance, adjust func(*mesh.UpstreamConfig, *mesh.DialerConfig)) *mesh.Upstream {
	w.tb.Helper()
	cfg := mesh.UpstreamConfig{Service: to.ID.Service(), Address: "127.0.0.1:0", DrainTimeout: -1}
	dialer, _ := w.dialer(source, func(d *mesh.DialerConfig) {
		d.Resolver = resolving(to)
		if adjust != nil {
			adjust(&cfg, d)
		}
	})
	cfg.Dialer = dialer
	u, err := mesh.ListenUpstream(cfg)
	if err != nil {
		w.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- u.Run(ctx) }()
	w.tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.tb.Errorf("run upstream: %v", err)
		}
	})
	return u
}

func dialLocal(tb testing.TB, u *mesh.Upstream) *net.TCPConn {
	tb.Helper()
	conn, err := net.Dial("tcp", u.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

// turnedAway dials and returns how the connection ended, which may be before the
// dial has.
func turnedAway(tb testing.TB, u *mesh.Upstream) error {
	tb.Helper()
	conn, err := net.Dial("tcp", u.Addr().String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return ended(tb, conn)
}

func TestAnUpstreamCarriesBytesBothWaysWithHalfClose(t *testing.T) {
	w := newWorld(t)
	server := w.listen("mongo-primary", allowing(allow("web", "mongo-primary")), nil)
	server.echo(t)
	u := w.upstream("web", server.instance(), nil)
	if _, _, ok := u.Last(); ok {
		t.Error("there is a last connection before the first")
	}
	local := dialLocal(t, u)
	said := make([]byte, 3*mebibyte+17)
	_, _ = rand.Read(said)
	go func() {
		_, _ = local.Write(said)
		_ = local.CloseWrite()
	}()
	heard, err := io.ReadAll(local)
	if err != nil || !bytes.Equal(said, heard) {
		t.Errorf("heard %d of %d bytes, %v", len(heard), len(said), err)
	}
	info, leaf, ok := u.Last()
	if !ok || info.Destination != w.id("mongo-primary") || info.BytesOut != uint64(len(said)) || leaf == nil {
		t.Errorf("last: %+v, %v", info, ok)
	}
	eventually(t, "nothing is left", func() bool { return len(server.table.Connections()) == 0 })
	if c := server.table.Counters(); c.Cut != 0 {
		t.Errorf("counters: %+v", c)
	}
}

func TestAnUpstreamListensOnLoopbackOnly(t *testing.T) {
	w := newWorld(t)
	dialer, _ := w.dialer("web", nil)
	for _, address := range []string{":5501", "0.0.0.0:0", "[::]:0", "192.0.2.1:5501", "localhost:0", "web:5501", "", "127.0.0.1"} {
		u, err := mesh.ListenUpstream(mesh.UpstreamConfig{Service: "mongo-primary", Address: address, Dialer: dialer})
		if err == nil {
			_ = u
			t.Errorf("%q is accepted", address)
		}
	}
}

func TestAnUpstreamConnectionWaitsForAnInstance(t *testing.T) {
	w := newWorld(t)
	server := w.listen("mongo-primary", allowing(allow("web", "mongo-primary")), nil)
	server.echo(t)
	instances := resolving()
	u := w.upstream("web", server.instance(), func(_ *mesh.UpstreamConfig, d *mesh.DialerConfig) { d.Resolver = instances })
	changed := u.Changed()
	local := dialLocal(t, u)
	if _, err := local.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	await(t, "Err changes", changed)
	if err := u.Err(); !errors.Is(err, mesh.ErrNoInstance) {
		t.Errorf("while held: %v", err)
	}
	instances.set(server.instance())
	heard := make([]byte, 5)
	_ = local.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(local, heard); err != nil || string(heard) != "hello" {
		t.Errorf("heard %q, %v", heard, err)
	}
	if err := u.Err(); err != nil {
		t.Errorf("after success: %v", err)
	}
}

func TestAnUpstreamConnectionDoesNotWaitForEver(t *testing.T) {
	w := newWorld(t)
	nobody := mesh.Instance{ID: w.id("mongo-primary")}
	u := w.upstream("web", nobody, func(c *mesh.UpstreamConfig, d *mesh.DialerConfig) {
		c.Hold = 150 * time.Millisecond
		d.Resolver = resolving()
	})
	began := time.Now()
	if err := turnedAway(t, u); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	if took := time.Since(began); took < 150*time.Millisecond || took > 2*time.Second {
		t.Errorf("held for %s", took)
	}
}

func TestAnUpstreamSaysAtOnceThatIntentionsDeny(t *testing.T) {
	w := newWorld(t)
	server := w.listen("mongo-primary", allowing(allow("*", "mongo-primary")), nil)
	server.echo(t)
	policy := allowing(allow("web", "mongo-primary"))
	u := w.upstream("web", server.instance(), func(_ *mesh.UpstreamConfig, d *mesh.DialerConfig) { d.Policy = policy })
	local := dialLocal(t, u)
	roundTrip(t, local, "before")

	changed := u.Changed()
	policy.set(deny("web", "mongo-primary"))
	if err := ended(t, local); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the live connection: %v, want a reset", err)
	}
	await(t, "Err changes", changed)
	var denied *mesh.DeniedError
	if err := u.Err(); !errors.As(err, &denied) || denied.Error() != "denied by intention web -> mongo-primary" {
		t.Errorf("nobody has dialled, and Err says: %v", err)
	}
	began := time.Now()
	if err := turnedAway(t, u); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a new connection: %v, want a reset", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("refused after %s", took)
	}
	changed = u.Changed()
	policy.set(allow("web", "mongo-primary"))
	await(t, "Err changes", changed)
	if err := u.Err(); err != nil {
		t.Errorf("the deny is taken back, and Err says: %v", err)
	}
	roundTrip(t, dialLocal(t, u), "again")
}

func TestAnUpstreamKnowsADenyThatOnlyTheDestinationHas(t *testing.T) {
	w := newWorld(t)
	policy := allowing(deny("web", "mongo-primary"))
	server := w.listen("mongo-primary", policy, nil)
	server.echo(t)
	u := w.upstream("web", server.instance(), nil)
	if err := turnedAway(t, u); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
	if err := u.Err(); err == nil || !strings.Contains(err.Error(), "denied by the destination: web -> mongo-primary") {
		t.Errorf("got %v", err)
	}
	policy.set(allow("web", "mongo-primary"))
	roundTrip(t, dialLocal(t, u), "hello")
	if err := u.Err(); err != nil {
		t.Errorf("after success: %v", err)
	}
}

func TestAResetOnOneSideIsAResetOnTheOther(t *testing.T) {
	w := newWorld(t)
	server := w.listen("mongo-primary", allowing(allow("web", "mongo-primary")), nil)
	accepted, result := make(chan net.Conn, 1), make(chan error, 1)
	server.handle(t, func(c net.Conn) {
		accepted <- c
		_, err := io.Copy(io.Discard, c)
		result <- err
	})
	u := w.upstream("web", server.instance(), nil)

	local := dialLocal(t, u)
	remote := (<-accepted).(*mesh.Conn)
	remote.Cut("for the test")
	if err := ended(t, local); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the local side: %v, want a reset", err)
	}
	if err := <-result; !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "for the test") {
		t.Errorf("the cut side: %v", err)
	}

	local = dialLocal(t, u)
	<-accepted
	_ = local.SetLinger(0)
	_ = local.Close()
	if err := <-result; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the mesh side: %v, want a reset", err)
	}
}

func TestAnIdleUpstreamConnectionIsCutAndABusyOneIsNot(t *testing.T) {
	w := newWorld(t)
	server := w.listen("mongo-primary", allowing(allow("web", "mongo-primary")), nil)
	server.echo(t)
	u := w.upstream("web", server.instance(), func(c *mesh.UpstreamConfig, _ *mesh.DialerConfig) { c.IdleTimeout = 300 * time.Millisecond })
	idle, busy := dialLocal(t, u), dialLocal(t, u)
	gone := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, idle)
		gone <- err
	}()
	for waiting := true; waiting; {
		select {
		case err := <-gone:
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the idle one: %v", err)
			}
			waiting = false
		default:
			roundTrip(t, busy, "busy")
		}
	}
	roundTrip(t, busy, "still busy")
}

func TestAnUpstreamThatStopsEndsItsConnections(t *testing.T) {
	w := newWorld(t)
	server := w.listen("mongo-primary", allowing(allow("web", "mongo-primary")), nil)
	server.echo(t)
	dialer, table := w.dialer("web", func(d *mesh.DialerConfig) { d.Resolver = resolving(server.instance()) })
	u, err := mesh.ListenUpstream(mesh.UpstreamConfig{
		Service: "mongo-primary", Address: "127.0.0.1:0", Dialer: dialer, DrainTimeout: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- u.Run(ctx) }()
	local := dialLocal(t, u)
	roundTrip(t, local, "before")
	cancel()
	if err := ended(t, local); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(table.Connections()); n != 0 {
		t.Errorf("%d connections left", n)
	}
}

func TestSpliceEndsWithItsContextAndTellsWhy(t *testing.T) {
	left, a := tcpPair(t)
	right, b := tcpPair(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	result := make(chan error, 1)
	go func() { result <- mesh.Splice(ctx, a, b) }()
	if _, err := left.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(right, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel(why)
	if err := <-result; !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	for _, conn := range []net.Conn{left, right} {
		if err := ended(t, conn); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want a reset", err)
		}
	}
}

func tcpPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	return client, server
}
