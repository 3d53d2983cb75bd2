// Package meshtest is a mesh inside one test process: real listeners, dialers
// and certificates, with intentions and a catalog that a test changes at will.
package meshtest

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/intentions"
	"sluice/internal/testca"
	"sluice/mesh"
)

const (
	trustDomain = "11111111-2222-3333-4444-555555555555.consul"
	datacenter  = "dc1"
	patience    = 10 * time.Second
)

// Wait polls a named condition; the test fails when it does not hold in time.
func Wait(tb testing.TB, condition string, holds func() bool) {
	tb.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-ticker.C {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %s", patience, condition)
		}
	}
}

// World is one trust domain with its intentions and its catalog.
type World struct {
	tb testing.TB
	ca *testca.CA
	// Policy is what every source and every destination of the world knows,
	// unless a test gives one its own.
	Policy *Policy
	// Catalog names the instances.
	Catalog *Catalog
}

// New returns a world in which nothing is allowed and nothing is registered.
func New(tb testing.TB) *World {
	return &World{tb: tb, ca: testca.NewRoot(tb, trustDomain), Policy: NewPolicy(), Catalog: newCatalog()}
}

// Credentials returns an identity of service that stays valid for the test.
func (w *World) Credentials(service string) mesh.CredentialSource {
	return credentials{mesh.Credentials{
		Certificate: w.ca.Leaf(w.tb, testca.Leaf{Datacenter: datacenter, Service: service}),
		Roots:       testca.Pool(w.ca),
		ID:          w.ca.ID(w.tb, datacenter, service),
	}}
}

type credentials struct{ fixed mesh.Credentials }

func (c credentials) Credentials() (mesh.Credentials, error) { return c.fixed, nil }

// Instance describes an instance of service at address.
func (w *World) Instance(service, node, address string, tags ...string) mesh.Instance {
	return mesh.Instance{
		ServiceID: service + "-" + node, Node: node, Address: address,
		ID: w.ca.ID(w.tb, datacenter, service), Tags: tags,
	}
}

// Listen runs a mesh listener of service on a free loopback port until the test
// ends.
func (w *World) Listen(service string, policy mesh.PolicySource) *mesh.Listener {
	w.tb.Helper()
	listener, err := mesh.Listen("127.0.0.1:0", mesh.ListenConfig{
		Credentials:  w.Credentials(service),
		Authorizer:   mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: service, Policy: policy}),
		Table:        mesh.NewTable(time.Now),
		DrainTimeout: -1,
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	w.Run("listener of "+service, listener.Run)
	return listener
}

// Serve runs an HTTP service behind a mesh listener and registers it.
func (w *World) Serve(service, node string, handler http.Handler, tags ...string) mesh.Instance {
	w.tb.Helper()
	listener := w.Listen(service, w.Policy)
	server := &http.Server{Handler: handler, ConnContext: mesh.ConnContext, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	w.Run("server of "+service, func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = server.Close() })
		defer stop()
		_ = server.Serve(listener)
		return nil
	})
	instance := w.Instance(service, node, listener.Addr().String(), tags...)
	w.Catalog.Add(instance)
	return instance
}

// Relay runs a TCP service behind a mesh listener: every connection is carried
// to target. It registers the service.
func (w *World) Relay(service, node, target string) mesh.Instance {
	w.tb.Helper()
	listener := w.Listen(service, w.Policy)
	w.Run("relay of "+service, func(ctx context.Context) error {
		var carried sync.WaitGroup
		defer carried.Wait()
		stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
		defer stop()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return nil
			}
			carried.Go(func() {
				backend, err := net.DialTimeout("tcp", target, time.Second)
				if err != nil {
					_ = conn.Close()
					return
				}
				_ = mesh.Splice(ctx, conn, backend)
			})
		}
	})
	instance := w.Instance(service, node, listener.Addr().String())
	w.Catalog.Add(instance)
	return instance
}

// Dialer runs a dialer that dials as source until the test ends.
func (w *World) Dialer(source string, policy mesh.PolicySource) *mesh.Dialer {
	dialer := mesh.NewDialer(mesh.DialerConfig{
		Credentials: w.Credentials(source), Resolver: w.Catalog, Policy: policy, Table: mesh.NewTable(time.Now),
	})
	w.Run("dialer of "+source, dialer.Run)
	return dialer
}

// Run runs an actor until the test ends, and waits for it.
func (w *World) Run(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	w.tb.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				w.tb.Errorf("%s: %v", name, err)
			}
		case <-time.After(patience):
			w.tb.Errorf("%s did not stop within %v", name, patience)
		}
	})
}

// Policy is a mesh.PolicySource that a test changes. Its default is deny.
type Policy struct {
	mu      sync.Mutex
	policy  mesh.Policy
	known   bool
	changed chan struct{}
}

// NewPolicy returns a policy that has not arrived.
func NewPolicy() *Policy { return &Policy{changed: make(chan struct{})} }

// Policy implements mesh.PolicySource.
func (p *Policy) Policy() (mesh.Policy, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.policy, p.known
}

// Changed implements mesh.PolicySource.
func (p *Policy) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Set replaces the rules.
func (p *Policy) Set(rules ...intentions.Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.policy = mesh.Policy{Set: intentions.NewSet(rules, intentions.Deny), Index: p.policy.Index + 1, Confirmed: time.Now()}
	p.known = true
	close(p.changed)
	p.changed = make(chan struct{})
}

// Allow returns a rule that allows source to call destination.
func Allow(source, destination string) intentions.Rule {
	return intentions.Rule{Source: source, Destination: destination, Action: intentions.Allow}
}

// Deny returns a rule that denies it.
func Deny(source, destination string) intentions.Rule {
	return intentions.Rule{Source: source, Destination: destination, Action: intentions.Deny}
}

// Catalog is a mesh.Resolver, and a gateway's catalog, that a test changes.
type Catalog struct {
	mu       sync.Mutex
	services map[string][]mesh.Instance
	changed  chan struct{}
}

func newCatalog() *Catalog {
	return &Catalog{services: map[string][]mesh.Instance{}, changed: make(chan struct{})}
}

// Instances implements mesh.Resolver.
func (c *Catalog) Instances(_ context.Context, service string) ([]mesh.Instance, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.services[service]) == 0 {
		return nil, mesh.ErrNoInstance
	}
	return slices.Clone(c.services[service]), nil
}

// Services returns a copy of all instances by service.
func (c *Catalog) Services() map[string][]mesh.Instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string][]mesh.Instance{}
	for service, instances := range c.services {
		if len(instances) > 0 {
			all[service] = slices.Clone(instances)
		}
	}
	return all
}

// Changed returns a channel that is closed at the next change.
func (c *Catalog) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Add registers an instance.
func (c *Catalog) Add(instance mesh.Instance) {
	c.change(func() {
		name := instance.ID.Service()
		c.services[name] = append(c.services[name], instance)
	})
}

// Remove takes an instance out.
func (c *Catalog) Remove(instance mesh.Instance) {
	c.change(func() {
		name := instance.ID.Service()
		c.services[name] = slices.DeleteFunc(slices.Clone(c.services[name]), func(i mesh.Instance) bool {
			return i.ServiceID == instance.ServiceID
		})
	})
}

func (c *Catalog) change(apply func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	apply()
	close(c.changed)
	c.changed = make(chan struct{})
}
