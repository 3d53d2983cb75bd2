package mesh_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/mesh"
)

// catalogOf is a Resolver of several services.
type catalogOf struct {
	mu       sync.Mutex
	services map[string][]mesh.Instance
	changed  chan struct{}
}

func newCatalog() *catalogOf {
	return &catalogOf{services: map[string][]mesh.Instance{}, changed: make(chan struct{})}
}

func (c *catalogOf) Instances(_ context.Context, service string) ([]mesh.Instance, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.services[service]) == 0 {
		return nil, mesh.ErrNoInstance
	}
	return c.services[service], nil
}

func (c *catalogOf) Changed(string) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *catalogOf) set(service string, instances ...mesh.Instance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.services[service] = instances
	close(c.changed)
	c.changed = make(chan struct{})
}

// door is a listener of one role of one member.
type door struct{ *destination }

func (w *world) door(service string) door {
	d := door{w.listen(service, allowing(allow("web", service)), nil)}
	d.echo(w.tb)
	return d
}

func (d door) of(member, term string) mesh.Instance {
	i := d.instance()
	i.Meta = map[string]string{"member": member, "term": term}
	return i
}

func memberOf(i mesh.Instance) string { return i.Meta["member"] }

func (w *world) members(catalog mesh.Resolver, adjust func(*mesh.MemberDialerConfig)) *mesh.MemberDialer {
	w.tb.Helper()
	dialer, _ := w.dialer("web", func(d *mesh.DialerConfig) { d.Resolver = catalog })
	cfg := mesh.MemberDialerConfig{Dialer: dialer, Leading: "mongo-primary", Following: "mongo-secondary", Member: memberOf, Epoch: termOf}
	if adjust != nil {
		adjust(&cfg)
	}
	m, err := mesh.NewMemberDialer(cfg)
	if err != nil {
		w.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	w.tb.Cleanup(func() { cancel(); <-done })
	return m
}

func reached(tb testing.TB, m *mesh.MemberDialer, member string) net.Conn {
	tb.Helper()
	conn, err := m.DialContext(tb.Context(), "tcp", member)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	roundTrip(tb, conn, "hello")
	return conn
}

func TestMembersAreReachedByTheirNamesInWhateverRole(t *testing.T) {
	w := newWorld(t)
	one, two := w.door("mongo-primary"), w.door("mongo-secondary")
	catalog := newCatalog()
	catalog.set("mongo-primary", one.of("a:1", "3"))
	catalog.set("mongo-secondary", two.of("b:1", ""))
	m := w.members(catalog, func(c *mesh.MemberDialerConfig) { c.Hold = -1 })
	for member, want := range map[string]door{"a:1": one, "b:1": two} {
		conn := reached(t, m, member)
		if got := conn.RemoteAddr().String(); got != want.Addr().String() {
			t.Errorf("%s led to %s", member, got)
		}
	}
	if _, err := m.DialContext(t.Context(), "tcp", "c:1"); !errors.Is(err, mesh.ErrNoInstance) {
		t.Errorf("an unknown member: %v", err)
	}
	if n := m.Connections(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

func TestAMembersConnectionsEndWithItsRole(t *testing.T) {
	w := newWorld(t)
	one, two, twoLeads := w.door("mongo-primary"), w.door("mongo-secondary"), w.door("mongo-primary")
	catalog := newCatalog()
	catalog.set("mongo-primary", one.of("a:1", "3"))
	catalog.set("mongo-secondary", two.of("b:1", ""))
	m := w.members(catalog, nil)
	led, followed := reached(t, m, "a:1"), reached(t, m, "b:1")
	catalog.set("mongo-primary", one.of("a:1", "3"), twoLeads.of("b:1", "4"))
	for name, conn := range map[string]net.Conn{"the old leader": led, "the promoted member": followed} {
		if _, err := io.ReadAll(conn); !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v, want a cut", name, err)
		}
	}
	if got := reached(t, m, "b:1").RemoteAddr().String(); got != twoLeads.Addr().String() {
		t.Errorf("b leads and was reached at %s", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := m.DialContext(ctx, "tcp", "a:1"); err == nil {
		t.Error("the old leader of a lower term was reached")
	}
}

func TestADialOfAMemberWaitsForItsDoor(t *testing.T) {
	w := newWorld(t)
	one := w.door("mongo-primary")
	catalog := newCatalog()
	m := w.members(catalog, nil)
	result := make(chan error, 1)
	go func() {
		conn, err := m.DialContext(context.Background(), "tcp", "a:1")
		if err == nil {
			err = tryRoundTrip(conn, "hello")
			_ = conn.Close()
		}
		result <- err
	}()
	select {
	case err := <-result:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	catalog.set("mongo-primary", one.of("a:1", "1"))
	if err := <-result; err != nil {
		t.Error(err)
	}
	eventually(t, "nothing is left", func() bool { return m.Connections() == 0 })
}

func TestARosterRemembersWhomTheCatalogHasDropped(t *testing.T) {
	w := newWorld(t)
	one := w.door("mongo-secondary")
	catalog := newCatalog()
	catalog.set("mongo-secondary", one.of("a:1", ""))
	now := time.Now()
	var mu sync.Mutex
	r := mesh.NewRoster(mesh.RosterConfig{
		Resolver: catalog, Services: []string{"mongo-primary", "mongo-secondary"}, Keep: time.Minute,
		Door: func(i mesh.Instance) (mesh.Instance, bool) { i.ID = w.id("mongo-primary"); return i, true },
		Now:  func() time.Time { mu.Lock(); defer mu.Unlock(); return now },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	eventually(t, "it was learned", func() bool { return len(r.Candidates()) == 1 })
	catalog.set("mongo-secondary")
	if got := r.Candidates(); len(got) != 1 || got[0].ID != w.id("mongo-primary") {
		t.Errorf("candidates: %+v", got)
	}
	mu.Lock()
	now = now.Add(2 * time.Minute)
	mu.Unlock()
	if got := r.Candidates(); len(got) != 0 {
		t.Errorf("still after two minutes: %+v", got)
	}
	cancel()
	<-done
}
