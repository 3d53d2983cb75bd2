package mesh_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/testca"
	"sluice/mesh"
)

func TestWithoutValidCredentialsNothingIsServedAndNothingDialled(t *testing.T) {
	w := newWorld(t)
	expired := &identityOf{}
	expired.set(w.ca.Leaf(t, testca.Leaf{Datacenter: "dc1", Service: "web", NotAfter: time.Now().Add(-10 * time.Second)}), testca.Pool(w.ca))
	early := &identityOf{}
	early.set(w.ca.Leaf(t, testca.Leaf{Datacenter: "dc1", Service: "web", NotBefore: time.Now().Add(time.Hour)}), testca.Pool(w.ca))
	rootless := &identityOf{}
	rootless.set(w.ca.Leaf(t, testca.Leaf{Datacenter: "dc1", Service: "web"}), nil)
	leafless := &identityOf{}
	leafless.newest.Store(&mesh.Credentials{Roots: testca.Pool(w.ca), ID: w.id("web")})
	for name, source := range map[string]mesh.CredentialSource{
		"no leaf has arrived": &identityOf{}, "expired": expired, "not valid yet": early, "no roots": rootless, "no leaf": leafless,
	} {
		t.Run(name, func(t *testing.T) {
			server := w.listen("web", allowing(allow("*", "web")), func(c *mesh.ListenConfig) { c.Credentials = source })
			server.echo(t)
			gateway, _ := w.dialer("gateway", nil)
			if _, err := gateway.DialInstance(t.Context(), server.instance()); err == nil {
				t.Error("served")
			}
			if c := server.table.Counters(); c.Accepted != 0 {
				t.Errorf("counters: %+v", c)
			}
			var dialled atomic.Bool
			web, _ := w.dialer("web", func(c *mesh.DialerConfig) {
				c.Credentials = source
				c.DialContext = func(context.Context, string, string) (net.Conn, error) {
					dialled.Store(true)
					return nil, errors.New("dialled")
				}
			})
			if _, err := web.DialInstance(t.Context(), server.instance()); !errors.Is(err, mesh.ErrNotReady) || dialled.Load() {
				t.Errorf("dial: %v, dialled %v", err, dialled.Load())
			}
			source, _ := source.Credentials()
			if err := source.Verify(time.Now()); !errors.Is(err, mesh.ErrNotReady) {
				t.Errorf("verify: %v", err)
			}
		})
	}
}

func TestALeafThatExpiresWhileServingRefusesTheNextAndARenewedOneServesAgain(t *testing.T) {
	w := newWorld(t)
	var later atomic.Int64
	source := w.identity("web")
	server := w.listen("web", allowing(allow("gateway", "web")), func(c *mesh.ListenConfig) {
		c.Credentials = source
		c.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})
	server.echo(t)
	client := w.identity("gateway")
	dialer, _ := w.dialer("gateway", func(c *mesh.DialerConfig) { c.Credentials = client })
	roundTrip(t, mustDial(t, dialer, server.instance()), "before")
	later.Store(int64(73 * time.Hour))
	if _, err := dialer.DialInstance(t.Context(), server.instance()); err == nil {
		t.Error("served with an expired leaf")
	}
	renew := func(s *identityOf, service string) {
		s.set(w.ca.Leaf(t, testca.Leaf{Datacenter: "dc1", Service: service, NotAfter: time.Now().Add(100 * time.Hour)}), testca.Pool(w.ca))
	}
	renew(source, "web")
	if _, err := dialer.DialInstance(t.Context(), server.instance()); err == nil {
		t.Error("served a client with an expired leaf")
	}
	renew(client, "gateway")
	roundTrip(t, mustDial(t, dialer, server.instance()), "after")
}

func TestAConnectionEndsWhenThePeersLeafExpires(t *testing.T) {
	w := newWorld(t)
	policy := allowing(allow("web", "mongo-primary"), allow("gateway", "mongo-primary"))
	server := w.listen("mongo-primary", policy, nil)
	server.echo(t)
	short := &identityOf{}
	expiry := time.Now().Add(2 * time.Second)
	short.set(w.ca.Leaf(t, testca.Leaf{Datacenter: "dc1", Service: "web", NotAfter: expiry}), testca.Pool(w.ca))
	web, _ := w.dialer("web", func(c *mesh.DialerConfig) { c.Credentials = short })
	gateway, _ := w.dialer("gateway", nil)
	loser, bystander := mustDial(t, web, server.instance()), mustDial(t, gateway, server.instance())
	roundTrip(t, loser, "before")
	if err := ended(t, loser); err == io.EOF {
		t.Error("closed politely, want a reset")
	}
	if late := time.Since(expiry); late > time.Second || late < -2*time.Second {
		t.Errorf("cut %s after the expiry", late)
	}
	roundTrip(t, bystander, "after")
}

func TestRootsRotateWithoutARefusedConnection(t *testing.T) {
	w := newWorld(t)
	oldCA, newCA := w.ca, testca.NewRoot(t, trustDomain).Intermediate(t, "dc1")
	both := testca.Pool(oldCA, newCA)
	source, client := w.identity("web"), w.identity("gateway")
	server := w.listen("web", allowing(allow("gateway", "web")), func(c *mesh.ListenConfig) { c.Credentials = source })
	server.echo(t)
	dialer, _ := w.dialer("gateway", func(c *mesh.DialerConfig) { c.Credentials = client })
	leaf := func(ca *testca.CA, service string) *tls.Certificate {
		return ca.Leaf(t, testca.Leaf{Datacenter: "dc1", Service: service})
	}
	first := mustDial(t, dialer, server.instance())
	for _, step := range []func(){
		func() { source.set(leaf(oldCA, "web"), both) },
		func() { client.set(leaf(oldCA, "gateway"), both) },
		func() { source.set(leaf(newCA, "web"), both) },
		func() { client.set(leaf(newCA, "gateway"), both) },
		func() { source.set(leaf(newCA, "web"), testca.Pool(newCA)) },
		func() { client.set(leaf(newCA, "gateway"), testca.Pool(newCA)) },
	} {
		step()
		conn := mustDial(t, dialer, server.instance())
		roundTrip(t, conn, "rotating")
		own, _ := source.Credentials()
		if conn.PeerCertificate().SerialNumber.Cmp(own.Certificate.Leaf.SerialNumber) != 0 {
			t.Error("the handshake did not use the newest leaf")
		}
	}
	roundTrip(t, first, "the first connection lives on")
	client.set(leaf(oldCA, "gateway"), both)
	if _, err := dialer.DialInstance(t.Context(), server.instance()); err == nil {
		t.Error("a leaf of the retired root is still believed")
	}
}

func TestADialEndsAtItsDeadlineWhereverThePeerFallsSilent(t *testing.T) {
	w := newWorld(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	leaf := w.ca.Leaf(t, testca.Leaf{Datacenter: "dc1", Service: "mongo-primary"})
	unconfirming := stockServer(t, &tls.Config{
		Certificates: []tls.Certificate{*leaf}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{mesh.ALPN},
	})
	for name, step := range map[string]struct {
		address string
		adjust  func(*mesh.DialerConfig)
	}{
		"resolver": {adjust: func(c *mesh.DialerConfig) { c.Resolver = resolverFunc(hang[[]mesh.Instance]) }},
		"TCP": {adjust: func(c *mesh.DialerConfig) {
			c.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return hang[net.Conn](ctx) }
		}},
		"handshake":    {address: silent.Addr().String()},
		"confirmation": {address: unconfirming},
	} {
		t.Run(name, func(t *testing.T) {
			dialer, table := w.dialer("web", func(c *mesh.DialerConfig) {
				c.Timeout = 150 * time.Millisecond
				c.Resolver = resolving(mesh.Instance{Address: step.address, ID: w.id("mongo-primary")})
				if step.adjust != nil {
					step.adjust(c)
				}
			})
			began := time.Now()
			_, err := dialer.Dial(t.Context(), "mongo-primary")
			if took := time.Since(began); !errors.Is(err, mesh.ErrTimeout) || took > 2*time.Second {
				t.Errorf("%s: %v", took, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := dialer.Dial(ctx, "mongo-primary"); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
			if n := len(table.Connections()); n != 0 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

type resolverFunc func(context.Context) ([]mesh.Instance, error)

func (f resolverFunc) Instances(ctx context.Context, _ string) ([]mesh.Instance, error) {
	return f(ctx)
}

func hang[T any](ctx context.Context) (none T, _ error) {
	<-ctx.Done()
	return none, ctx.Err()
}

func TestADialTriesTheOtherInstancesAndLeavesTheFailedOneForLast(t *testing.T) {
	w := newWorld(t)
	server := w.listen("web", allowing(allow("gateway", "web")), nil)
	server.echo(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	var tried []string
	dead := mesh.Instance{Address: silent.Addr().String(), ID: w.id("web")}
	dialer, table := w.dialer("gateway", func(c *mesh.DialerConfig) {
		c.Timeout = 2 * time.Second
		c.Resolver = resolving(server.instance(), dead)
		c.Prefer = func([]mesh.Instance) []mesh.Instance { return []mesh.Instance{dead, server.instance()} }
		c.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			tried = append(tried, address)
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
	})
	for range 3 {
		conn, err := dialer.Dial(t.Context(), "web")
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, conn, "hello")
	}
	want := []string{dead.Address, server.Addr().String(), server.Addr().String(), server.Addr().String()}
	if strings.Join(tried, " ") != strings.Join(want, " ") {
		t.Errorf("tried %v, want %v", tried, want)
	}
	if c := table.Counters(); c.Dialled != 3 || c.DialFailed != 1 {
		t.Errorf("counters: %+v", c)
	}
}

func TestADenyIsTriedElsewhereOnlyIfTheSourceKnowsThatItIsAllowed(t *testing.T) {
	w := newWorld(t)
	behind := w.listen("web", allowing(), nil)
	ahead := w.listen("web", allowing(allow("gateway", "web")), nil)
	behind.echo(t)
	ahead.echo(t)
	for name, policy := range map[string]mesh.PolicySource{"knows": allowing(allow("gateway", "web")), "does not": newPolicy()} {
		dialer, _ := w.dialer("gateway", func(c *mesh.DialerConfig) {
			c.Policy = policy
			c.Resolver = resolving(behind.instance(), ahead.instance())
			c.Prefer = func([]mesh.Instance) []mesh.Instance {
				return []mesh.Instance{behind.instance(), ahead.instance()}
			}
		})
		_, err := dialer.Dial(t.Context(), "web")
		if want := name == "knows"; (err == nil) != want || !want && !errors.Is(err, mesh.ErrDenied) {
			t.Errorf("source %s: %v", name, err)
		}
	}
}

func TestAServiceWithoutInstancesIsErrNoInstance(t *testing.T) {
	w := newWorld(t)
	dialer, _ := w.dialer("gateway", func(c *mesh.DialerConfig) { c.Resolver = resolving() })
	if _, err := dialer.Dial(t.Context(), "web"); !errors.Is(err, mesh.ErrNoInstance) {
		t.Errorf("got %v", err)
	}
	refused := mesh.Instance{Address: "127.0.0.1:1", ID: w.id("web")}
	dialer, _ = w.dialer("gateway", func(c *mesh.DialerConfig) { c.Resolver = resolving(refused, refused) })
	if _, err := dialer.Dial(t.Context(), "web"); err == nil || errors.Is(err, mesh.ErrNoInstance) {
		t.Errorf("got %v", err)
	}
}
