package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"sluice/gateway/proxy"
	"sluice/gateway/tcp"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

func TestTheAccessLogSaysWhoHasEndedATCPConnection(t *testing.T) {
	for who, c := range map[string]struct {
		// ends is what becomes of a connection whose other end is with the instance.
		ends         func(policy *meshtest.Policy, client *net.TCPConn, instance *mesh.Conn)
		flag, reason string
	}{
		"the client, by a reset": {func(_ *meshtest.Policy, client *net.TCPConn, _ *mesh.Conn) {
			_ = client.SetLinger(0)
			_ = client.Close()
		}, "DC", "the client broke the connection: "},
		"the client, as it should be": {func(_ *meshtest.Policy, client *net.TCPConn, _ *mesh.Conn) { _ = client.Close() }, "-", ""},
		"the instance":                {func(_ *meshtest.Policy, _ *net.TCPConn, instance *mesh.Conn) { instance.Cut("a fault") }, "UR", "the instance broke the connection: call db-db-1: "},
		"a deny":                      {func(policy *meshtest.Policy, _ *net.TCPConn, _ *mesh.Conn) { policy.Set() }, "DI", "the instance broke the connection: denied "},
	} {
		t.Run(who, func(t *testing.T) {
			world := meshtest.New(t)
			world.Policy.Set(meshtest.Allow("gateway", "db")) // the instance does nothing about a deny
			own := meshtest.NewPolicy()
			own.Set(meshtest.Allow("gateway", "db"))
			front, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			_, port, _ := net.SplitHostPort(front.Addr().String())
			listener, reached := world.Listen("db", world.Policy), make(chan *mesh.Conn, 1)
			world.Catalog.Add(world.Instance("db", "db-1", listener.Addr().String(), "urlprefix-:"+port))
			attend(world, "db", listener, func(conn net.Conn) {
				reached <- conn.(*mesh.Conn)
				_, _ = io.Copy(conn, conn)
			})
			table := tcp.NewTable(nil)
			l, log := logged(t, world, proxy.Config{Dialer: world.Dialer("gateway", own), Policy: own, Streams: table}, `$request_method $flags "$reason"`)
			server := tcp.New(tcp.Config{Route: l.RouteStream, Table: table, Ended: l.StreamEnded})
			world.Run("streams", func(ctx context.Context) error { return server.Serve(ctx, front) })
			conn, err := net.Dial("tcp", front.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			speaks(t, conn)
			c.ends(own, conn.(*net.TCPConn), <-reached)
			if line := log.has(t, "TCP "); !strings.HasPrefix(line, fmt.Sprintf(`TCP %s "%s`, c.flag, c.reason)) {
				t.Errorf("got %s, want %s and %q", line, c.flag, c.reason)
			}
			l.StreamEnded(tcp.Info{}, fmt.Errorf("%w: a leaf has expired: %w", tcp.ErrUpstream, net.ErrClosed))
			log.has(t, `TCP CT "the instance broke the connection: a leaf has expired`)
		})
	}
}

func TestATCPConnectionThatIsRefusedIsCounted(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set() // the destination's
	own := meshtest.NewPolicy()
	own.Set(meshtest.Allow("gateway", "*"))
	denied := echoing(t, world, "db-1", "urlprefix-:7001 proto=tcp")
	world.Catalog.Add(world.Instance("other", "o-1", denied.Address, "urlprefix-:7002 proto=tcp"))
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", own), Policy: own})
	meshtest.Wait(t, "both routes are there", func() bool { return l.Table().Len() == 2 })
	for port, c := range map[uint16]struct {
		metric string
		is     error
	}{7001: {"sluice_gateway_denied_by_destination_total", mesh.ErrDenied}, 7002: {"sluice_gateway_wrong_identity_total", mesh.ErrWrongIdentity}} {
		call := tcp.Call{Client: netip.MustParseAddrPort("127.0.0.1:1"), Server: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)}
		if _, err := l.RouteStream(t.Context(), call); !errors.Is(err, c.is) {
			t.Errorf("port %d: %v, want %v", port, err, c.is)
		}
		if n := l.metric(t, c.metric); n != 1 {
			t.Errorf("%s is %v, want 1", c.metric, n)
		}
	}
}
