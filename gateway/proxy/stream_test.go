package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
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
	world.Run("db", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
		defer stop()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return nil
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
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
	server := tcp.New(tcp.Config{Route: l.RouteStream, Table: table})
	world.Run("streams", func(ctx context.Context) error { return server.Serve(ctx, listener) })
	return l, func() net.Conn {
		conn, err := net.Dial("tcp", listener.Addr().String())
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
