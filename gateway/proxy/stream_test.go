package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/gateway/proxy"
	"sluice/gateway/tcp"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

// echoing is a TCP service over the mesh that sends back what it gets.
func echoing(t *testing.T, world *meshtest.World, node string, tags ...string) mesh.Instance {
	t.Helper()
	listener := world.Listen("db", world.Policy)
	instance := world.Instance("db", node, listener.Addr().String(), tags...)
	world.Catalog.Add(instance)
	attend(world, "db", listener, func(conn net.Conn) {
		_, _ = io.Copy(conn, conn)
	})
	return instance
}

// streams runs a TCP listener of a gateway and returns a way to connect.
func streams(t *testing.T, world *meshtest.World) (l *lab, connect func() net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	echoing(t, world, "db-1", "urlprefix-:"+port+" proto=tcp")
	table := tcp.NewTable(nil)
	l = with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Streams: table})
	server := tcp.New(tcp.Config{Route: l.RouteStream, Table: table, Ended: l.StreamEnded})
	world.Run("streams", func(ctx context.Context) error { return server.Serve(ctx, listener) })
	return l, func() net.Conn {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if errors.Is(err, syscall.ECONNRESET) { // a refusal may come before the dial returns
			var far net.Conn
			conn, far = net.Pipe()
			err = far.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
}

// speaks wants conn to lead to an echo.
func speaks(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	buffer := make([]byte, 4)
	if _, err := conn.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, buffer); err != nil || string(buffer) != "ping" {
		t.Fatalf("%q, %v", buffer, err)
	}
}

// ends wants conn to be ended by the other side.
func ends(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("it lives on: %v", err)
	}
}

func TestATCPConnectionCrossesTheMeshAndIsCutByADeny(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Allow("gateway", "db"))
	_, connect := streams(t, world)
	conn := connect()
	speaks(t, conn)
	world.Policy.Set()
	ends(t, conn)
	ends(t, connect())
}

func TestATCPConnectionIsCutWhenItsInstanceIsNotHealthyAnyMore(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Allow("gateway", "db"))
	l, connect := streams(t, world)
	conn := connect()
	speaks(t, conn)
	first := l.Table().Routes()[0]
	other := echoing(t, world, "db-2", "urlprefix-"+first.Host+" proto=tcp")
	meshtest.Wait(t, "both are there", func() bool { return len(l.Table().Routes()[0].Instances) == 2 })
	speaks(t, conn)
	world.Catalog.Remove(first.Instances[0])
	ends(t, conn)
	next := connect()
	speaks(t, next)
	world.Catalog.Remove(other)
	ends(t, next)
}

func TestATCPConnectionGoesElsewhereWhileNobodyWasReached(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Allow("gateway", "db"))
	l, connect := streams(t, world)
	dead := world.Instance("db", "db-0", refusing(t), "urlprefix-"+l.Table().Routes()[0].Host+" proto=tcp")
	world.Catalog.Add(dead)
	meshtest.Wait(t, "both are there", func() bool { return len(l.Table().Routes()[0].Instances) == 2 })
	for range 10 {
		speaks(t, connect())
	}
}

func TestATCPConnectionIsExplainedByWhereItComesIn(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Allow("gateway", "db"))
	l, _ := streams(t, world)
	port := l.Table().Routes()[0].Host
	echoing(t, world, "db-2", "urlprefix-db.test proto=tcp allow=ip:192.0.2.0/24")
	meshtest.Wait(t, "both routes are there", func() bool { return l.Table().Len() == 2 })
	for _, c := range []struct {
		url, client, verdict string
		status               int
	}{
		{"tcp://" + port, "", "The only eligible instance answers.", 0},
		{"tcp://127.0.0.1" + port, "", "The only eligible instance answers.", 0},
		{"tcp://:1", "", "No TCP route takes it, so the connection is reset.", 404},
		{"tcp://DB.test", "192.0.2.1", "The only eligible instance answers.", 0},
		{"tcp://db.test/", "198.51.100.1", "The connection is reset: route db.test proto=tcp: refused: 198.51.100.1 is in no allowed network.", 403},
	} {
		q := proxy.Question{URL: c.url}
		if c.client != "" {
			q.Client = netip.MustParseAddr(c.client)
		}
		e, err := l.Explain(t.Context(), q)
		if err != nil || e.Verdict != c.verdict || e.Status != c.status || (c.status != 404) != (len(e.Instances) == 1) {
			t.Errorf("%s: %d %q, %v, instances %+v; want %d %q", c.url, e.Status, e.Verdict, err, e.Instances, c.status, c.verdict)
		}
	}
	world.Policy.Set()
	if e, err := l.Explain(t.Context(), proxy.Question{URL: "tcp://" + port}); err != nil || e.Status != 403 || !strings.Contains(e.Verdict, "denied") {
		t.Errorf("denied: %d %q, %v", e.Status, e.Verdict, err)
	}
}
