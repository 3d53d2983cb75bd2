package mesh_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/identity"
	"sluice/intentions"
	"sluice/internal/testca"
	"sluice/mesh"
)

const (
	trustDomain = "11111111-2222-3333-4444-555555555555.consul"
	patience    = 10 * time.Second
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eventually waits until a named condition holds.
func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			tb.Fatalf("waited %s in vain: %s", patience, what)
		}
		<-ticker.C
	}
}

// await waits until a channel is closed.
func await(tb testing.TB, what string, channel <-chan struct{}) {
	tb.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-channel:
	case <-timer.C:
		tb.Fatalf("waited %s in vain: %s", patience, what)
	}
}

// identityOf is a CredentialSource whose credentials a test can replace.
type identityOf struct {
	newest atomic.Pointer[mesh.Credentials]
}

func (s *identityOf) Credentials() (mesh.Credentials, error) {
	if c := s.newest.Load(); c != nil {
		return *c, nil
	}
	return mesh.Credentials{}, errors.New("no leaf has arrived")
}

func (s *identityOf) set(leaf *tls.Certificate, roots *x509.CertPool) {
	id, _ := identity.FromCertificate(leaf.Leaf)
	s.newest.Store(&mesh.Credentials{Certificate: leaf, Roots: roots, ID: id})
}

// policyOf is a PolicySource that a test can change.
type policyOf struct {
	mu      sync.Mutex
	policy  mesh.Policy
	arrived bool
	changed chan struct{}
}

func newPolicy() *policyOf { return &policyOf{changed: make(chan struct{})} }

// allowing returns a policy of the given rules over a default of deny.
func allowing(rules ...intentions.Rule) *policyOf {
	p := newPolicy()
	p.set(rules...)
	return p
}

func (p *policyOf) Policy() (mesh.Policy, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.policy, p.arrived
}

func (p *policyOf) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

func (p *policyOf) set(rules ...intentions.Rule) {
	p.confirm(time.Now(), rules...)
}

func (p *policyOf) confirm(at time.Time, rules ...intentions.Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.policy = mesh.Policy{Set: intentions.NewSet(rules, intentions.Deny), Index: p.policy.Index + 1, Confirmed: at}
	p.arrived = true
	close(p.changed)
	p.changed = make(chan struct{})
}

func rule(source, destination string, action intentions.Action) intentions.Rule {
	return intentions.Rule{Source: source, Destination: destination, Action: action}
}

func allow(source, destination string) intentions.Rule {
	return rule(source, destination, intentions.Allow)
}

func deny(source, destination string) intentions.Rule {
	return rule(source, destination, intentions.Deny)
}

// instancesOf is a Resolver that a test can change.
type instancesOf struct {
	mu        sync.Mutex
	instances []mesh.Instance
	changed   chan struct{}
}

func resolving(instances ...mesh.Instance) *instancesOf {
	return &instancesOf{instances: instances, changed: make(chan struct{})}
}

func (r *instancesOf) Instances(context.Context, string) ([]mesh.Instance, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.instances) == 0 {
		return nil, mesh.ErrNoInstance
	}
	return r.instances, nil
}

func (r *instancesOf) Changed(string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

func (r *instancesOf) set(instances ...mesh.Instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.instances = instances
	close(r.changed)
	r.changed = make(chan struct{})
}

// world is one trust domain with a certificate authority.
type world struct {
	tb testing.TB
	ca *testca.CA
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	return &world{tb: tb, ca: testca.NewRoot(tb, trustDomain).Intermediate(tb, "dc1")}
}

func (w *world) id(service string) identity.ID { return w.ca.ID(w.tb, "dc1", service) }

func (w *world) identity(service string) *identityOf {
	return w.identityIn("dc1", service)
}

func (w *world) identityIn(datacenter, service string) *identityOf {
	s := &identityOf{}
	s.set(w.ca.Leaf(w.tb, testca.Leaf{Datacenter: datacenter, Service: service}), testca.Pool(w.ca))
	return s
}

// destination is a running listener.
type destination struct {
	*mesh.Listener
	table *mesh.Table
	id    identity.ID
	stop  func()
}

func (d *destination) instance() mesh.Instance {
	return mesh.Instance{ServiceID: d.id.Service() + "-1", Node: "node-1", Address: d.Addr().String(), ID: d.id}
}

// listen runs a listener of service that judges by policy. adjust may change the
// configuration.
func (w *world) listen(service string, policy mesh.PolicySource, adjust func(*mesh.ListenConfig)) *destination {
	w.tb.Helper()
	table := mesh.NewTable(nil)
	cfg := mesh.ListenConfig{
		Credentials:  w.identity(service),
		Authorizer:   mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: service, Policy: policy}),
		Table:        table,
		DrainTimeout: -1,
	}
	if adjust != nil {
		adjust(&cfg)
	}
	l, err := mesh.Listen("127.0.0.1:0", cfg)
	if err != nil {
		w.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	d := &destination{Listener: l, table: table, id: w.id(service)}
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.tb.Errorf("run listener: %v", err)
		}
	})
	w.tb.Cleanup(d.stop)
	return d
}

// echo answers every connection with what it says, half-close included.
func (d *destination) echo(tb testing.TB) { d.handle(tb, func(c net.Conn) { _, _ = io.Copy(c, c) }) }

// handle gives every connection to handler and closes it afterwards.
func (d *destination) handle(tb testing.TB, handler func(net.Conn)) {
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for {
			conn, err := d.Accept()
			if err != nil {
				return
			}
			handlers.Go(func() {
				defer func() { _ = conn.Close() }()
				handler(conn)
			})
		}
	})
	tb.Cleanup(func() {
		d.stop()
		handlers.Wait()
	})
}

// dialer returns a running dialer of service. adjust may change the
// configuration.
func (w *world) dialer(service string, adjust func(*mesh.DialerConfig)) (*mesh.Dialer, *mesh.Table) {
	w.tb.Helper()
	table := mesh.NewTable(nil)
	cfg := mesh.DialerConfig{Credentials: w.identity(service), Table: table}
	if adjust != nil {
		adjust(&cfg)
	}
	d := mesh.NewDialer(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	w.tb.Cleanup(func() {
		cancel()
		<-done
		cfg.Table.CutWhere("the test is over", func(mesh.ConnectionInfo) bool { return true })
	})
	return d, cfg.Table
}

func mustDial(tb testing.TB, d *mesh.Dialer, instance mesh.Instance) *mesh.Conn {
	tb.Helper()
	conn, err := d.DialInstance(tb.Context(), instance)
	if err != nil {
		tb.Fatal(err)
	}
	return conn
}

// roundTrip says something and expects it back.
func roundTrip(tb testing.TB, conn net.Conn, say string) {
	tb.Helper()
	if err := tryRoundTrip(conn, say); err != nil {
		tb.Fatalf("round trip: %v", err)
	}
}

func tryRoundTrip(conn net.Conn, say string) error {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte(say)); err != nil {
		return err
	}
	heard := make([]byte, len(say))
	if _, err := io.ReadFull(conn, heard); err != nil {
		return err
	}
	if string(heard) != say {
		return errors.New("heard " + string(heard))
	}
	return nil
}

// ended waits until a read fails and returns how.
func ended(tb testing.TB, conn net.Conn) error {
	tb.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		tb.Fatal("the connection is still alive")
	}
	if err == nil {
		return io.EOF
	}
	return err
}
