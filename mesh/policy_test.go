package mesh_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/identity"
	"sluice/intentions"
	"sluice/internal/testca"
	"sluice/mesh"
)

func TestADenyCutsLiveConnectionsAtOnceAndLeavesOthersUntouched(t *testing.T) {
	w := newWorld(t)
	policy := allowing(allow("web", "mongo-primary"), allow("gateway", "mongo-primary"))
	server := w.listen("mongo-primary", policy, nil)
	server.echo(t)
	web, _ := w.dialer("web", nil)
	gateway, _ := w.dialer("gateway", nil)
	losers := []*mesh.Conn{mustDial(t, web, server.instance()), mustDial(t, web, server.instance())}
	bystander := mustDial(t, gateway, server.instance())
	for _, conn := range append(losers, bystander) {
		roundTrip(t, conn, "before")
	}
	began := time.Now()
	policy.set(deny("web", "mongo-primary"), allow("gateway", "mongo-primary"))
	for _, conn := range losers {
		if err := ended(t, conn); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want a reset", err)
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the cut took %s", took)
	}
	roundTrip(t, bystander, "after")
	eventually(t, "two cuts are counted", func() bool {
		c := server.table.Counters()
		return c.Cut == 2 && c.CutDenied == 2
	})
	if live := server.table.Connections(); len(live) != 1 || live[0].Source != w.id("gateway") {
		t.Errorf("live: %+v", live)
	}
	if _, err := web.DialInstance(t.Context(), server.instance()); !errors.Is(err, mesh.ErrDenied) {
		t.Errorf("a new connection after the deny: %v", err)
	}
	policy.set(allow("web", "mongo-primary"))
	roundTrip(t, mustDial(t, web, server.instance()), "again")
}

func TestADenyCutsAConnectionThatDoesNotReadAndDoesNotWait(t *testing.T) {
	w := newWorld(t)
	policy := allowing(allow("web", "mongo-primary"))
	server := w.listen("mongo-primary", policy, nil)
	server.handle(t, func(c net.Conn) {
		zeros := make([]byte, 1<<20)
		for {
			if _, err := c.Write(zeros); err != nil {
				return
			}
		}
	})
	dialer, _ := w.dialer("web", nil)
	mustDial(t, dialer, server.instance())
	var written uint64
	eventually(t, "the server is stuck in a write", func() bool {
		live := server.table.Connections()
		if len(live) != 1 {
			return false
		}
		stuck := live[0].BytesOut == written && written > 0
		written = max(live[0].BytesOut, 1)
		return stuck || live[0].BytesOut == 0
	})
	began := time.Now()
	policy.set(deny("web", "mongo-primary"))
	eventually(t, "the connection is gone", func() bool { return len(server.table.Connections()) == 0 })
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the cut took %s", took)
	}
}

func TestADenyKnownToTheSourceCutsItsLiveConnections(t *testing.T) {
	w := newWorld(t)
	server := w.listen("mongo-primary", allowing(allow("web", "*")), nil)
	server.echo(t)
	policy := allowing(allow("web", "mongo-primary"))
	dialer, table := w.dialer("web", func(c *mesh.DialerConfig) { c.Policy = policy })
	conn := mustDial(t, dialer, server.instance())
	roundTrip(t, conn, "before")
	policy.set(deny("web", "*"))
	err := ended(t, conn)
	if !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "denied by a change of intentions") {
		t.Errorf("got %v", err)
	}
	eventually(t, "the cut is counted", func() bool { return table.Counters().CutDenied == 1 })
}

// watched is a policy that counts how often somebody began to wait for a change.
type watched struct {
	*policyOf
	waits atomic.Int64
}

func (p *watched) Changed() <-chan struct{} {
	defer p.waits.Add(1)
	return p.policyOf.Changed()
}

// TestAConnectionAuthorizedByTheOldPolicyDoesNotOutliveTheNewOne puts a change of
// policy, and the whole pass over the live connections that follows it, between
// the verdict on a connection and its registration.
func TestAConnectionAuthorizedByTheOldPolicyDoesNotOutliveTheNewOne(t *testing.T) {
	for _, protocols := range [][]string{nil, {mesh.ALPN}} {
		w := newWorld(t)
		policy := &watched{policyOf: allowing(allow("web", "mongo-primary"))}
		var once sync.Once
		server := w.listen("mongo-primary", policy, func(c *mesh.ListenConfig) {
			c.Authorizer = mesh.NewAuthorizer(mesh.AuthorizerConfig{
				Service: "mongo-primary", Policy: policy,
				// The authorizer asks for the time when it holds its snapshot and
				// has not decided yet.
				Now: func() time.Time {
					once.Do(func() {
						for range 2 {
							// The second pass begins only when the first has ended.
							before := policy.waits.Load()
							policy.set(deny("web", "mongo-primary"))
							eventually(t, "a pass over the live connections has begun", func() bool { return policy.waits.Load() > before })
						}
					})
					return time.Now()
				},
			})
		})
		server.handle(t, func(c net.Conn) { _, _ = c.Write([]byte{7}) })
		cfg := rawClient(w.ca.Leaf(t, testca.Leaf{Datacenter: "dc1", Service: "web"}))
		cfg.NextProtos = protocols
		conn, err := tls.Dial("tcp", server.Addr().String(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(conn)
		if protocols == nil && len(said) != 0 || protocols != nil && string(said) != "\x01" {
			t.Errorf("%v: the server said %v, %v", protocols, said, err)
		}
		_ = conn.Close()
		eventually(t, "the connection is counted as denied", func() bool { return server.table.Counters().Denied == 1 })
		if c := server.table.Counters(); c.Accepted != 0 {
			t.Errorf("counters: %+v", c)
		}
		if live := server.table.Connections(); len(live) != 0 {
			t.Errorf("live: %+v", live)
		}
	}
}

func TestNoConnectionOfAStormOutlivesTheLastDeny(t *testing.T) {
	w := newWorld(t)
	policy := allowing(allow("web", "mongo-primary"))
	server := w.listen("mongo-primary", policy, nil)
	server.handle(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	dialer, _ := w.dialer("web", nil)
	var dialing sync.WaitGroup
	var established atomic.Int64
	stop := make(chan struct{})
	for range 8 {
		dialing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := dialer.DialInstance(t.Context(), server.instance()); err == nil {
					established.Add(1)
				}
			}
		})
	}
	for range 20 {
		policy.set(allow("web", "mongo-primary"))
		before := established.Load()
		eventually(t, "connections are made", func() bool { return established.Load() > before })
		policy.set(deny("web", "mongo-primary"))
	}
	close(stop)
	dialing.Wait()
	eventually(t, "nothing is alive", func() bool { return len(server.table.Connections()) == 0 })
}

// TestASessionTicketDoesNotOpenTheDoorAfterADeny uses a client that keeps session
// tickets, as the stock SDK's servers hand them out.
func TestASessionTicketDoesNotOpenTheDoorAfterADeny(t *testing.T) {
	w := newWorld(t)
	policy := allowing(allow("web", "mongo-primary"))
	server := w.listen("mongo-primary", policy, nil)
	server.handle(t, func(c net.Conn) { _, _ = c.Write([]byte{1}) })
	cfg := rawClient(w.ca.Leaf(t, testca.Leaf{Datacenter: "dc1", Service: "web"}))
	cfg.ServerName = "mongo-primary"
	tickets := &ticketCounter{ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	cfg.ClientSessionCache = tickets
	for range 2 {
		state, err := served(server.Addr().String(), cfg)
		if err != nil || state.DidResume {
			t.Fatalf("resumed %v, %v", state.DidResume, err)
		}
	}
	if n := tickets.stored.Load(); n != 0 {
		t.Errorf("the server has given %d tickets away", n)
	}
	policy.set(deny("web", "mongo-primary"))
	if state, err := served(server.Addr().String(), cfg); err == nil {
		t.Errorf("served after the deny, resumed %v", state.DidResume)
	}
}

type ticketCounter struct {
	tls.ClientSessionCache
	stored atomic.Int64
}

func (c *ticketCounter) Put(key string, state *tls.ClientSessionState) {
	if state != nil {
		c.stored.Add(1)
	}
	c.ClientSessionCache.Put(key, state)
}

// verdictsOf is an agent's authorize endpoint.
type verdictsOf struct {
	asked  atomic.Int64
	answer func(context.Context) (bool, error)
}

func (v *verdictsOf) Authorize(ctx context.Context, source identity.ID, destination string) (intentions.Decision, error) {
	v.asked.Add(1)
	allowed, err := v.answer(ctx)
	return intentions.Decision{Source: source.Service(), Destination: destination, Allowed: allowed}, err
}

func TestTheAgentIsAskedOnlyWhileNoPolicyHasArrived(t *testing.T) {
	w := newWorld(t)
	agent := &verdictsOf{answer: func(context.Context) (bool, error) { return true, nil }}
	policy := newPolicy()
	a := mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: "mongo-primary", Policy: policy, Fallback: agent})
	if d, err := a.Authorize(t.Context(), w.id("web")); err != nil || !d.Allowed || agent.asked.Load() != 1 {
		t.Errorf("without a policy: %+v, %v, asked %d", d, err, agent.asked.Load())
	}
	policy.set(deny("web", "mongo-primary"))
	if d, err := a.Authorize(t.Context(), w.id("web")); err != nil || d.Allowed || d.Rule == nil {
		t.Errorf("with a policy: %+v, %v", d, err)
	}
	policy.mu.Lock()
	policy.arrived = false
	policy.mu.Unlock()
	if d, err := a.Authorize(t.Context(), w.id("web")); err == nil || d.Allowed {
		t.Errorf("with a policy withdrawn: %+v, %v", d, err)
	}
	if n := agent.asked.Load(); n != 1 {
		t.Errorf("the agent has been asked %d times", n)
	}
}

func TestADenyByTheAgentIsADeny(t *testing.T) {
	w := newWorld(t)
	agent := &verdictsOf{answer: func(context.Context) (bool, error) { return false, nil }}
	server := w.listen("mongo-primary", nil, func(c *mesh.ListenConfig) {
		c.Authorizer = mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: "mongo-primary", Policy: newPolicy(), Fallback: agent})
	})
	server.echo(t)
	dialer, _ := w.dialer("web", nil)
	if _, err := dialer.DialInstance(t.Context(), server.instance()); !errors.Is(err, mesh.ErrDenied) {
		t.Errorf("got %v", err)
	}
	if c := server.table.Counters(); c.Accepted != 0 {
		t.Errorf("counters: %+v", c)
	}
}

func TestNoVerdictIsADeny(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	stale := newPolicy()
	stale.confirm(now.Add(-time.Minute), allow("*", "*"))
	l7 := allowing(intentions.Rule{Source: "web", Destination: "mongo-primary", L7: true})
	failing := &verdictsOf{answer: func(context.Context) (bool, error) { return true, errors.New("agent: 500") }}
	for name, cfg := range map[string]mesh.AuthorizerConfig{
		"stale policy":               {Policy: stale, MaxAge: 59 * time.Second},
		"no policy, no agent":        {Policy: newPolicy()},
		"nothing at all":             {},
		"agent fails":                {Policy: newPolicy(), Fallback: failing},
		"no rule, default deny":      {Policy: allowing()},
		"other datacenter":           {Policy: allowing(allow("*", "*")), Datacenters: []string{"dc2"}},
		"no datacenter":              {Policy: allowing(allow("*", "*")), Datacenters: []string{}},
		"HTTP permissions":           {Policy: l7},
		"deny before a wide allow":   {Policy: allowing(allow("*", "*"), deny("web", "mongo-primary"))},
		"a rule for another service": {Policy: allowing(allow("web", "mongo-secondary"))},
	} {
		cfg.Service, cfg.Now = "mongo-primary", func() time.Time { return now }
		if d, err := mesh.NewAuthorizer(cfg).Authorize(t.Context(), w.id("web")); err == nil && d.Allowed {
			t.Errorf("%s: allowed: %+v", name, d)
		}
	}
	fresh := mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: "mongo-primary", Policy: stale, MaxAge: time.Minute, Now: func() time.Time { return now }})
	if d, err := fresh.Authorize(t.Context(), w.id("web")); err != nil || !d.Allowed {
		t.Errorf("a policy just within its age: %+v, %v", d, err)
	}
	unbounded := mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: "mongo-primary", Policy: stale, MaxAge: -1})
	if d, err := unbounded.Authorize(t.Context(), w.id("web")); err != nil || !d.Allowed {
		t.Errorf("a policy without a bound: %+v, %v", d, err)
	}
	if d, err := unbounded.Authorize(t.Context(), identity.ID{}); err == nil || d.Allowed {
		t.Errorf("nobody is allowed: %+v, %v", d, err)
	}
}

func TestAStalePolicyRefusesNewConnectionsAndKeepsLiveOnes(t *testing.T) {
	w := newWorld(t)
	policy := allowing(allow("web", "mongo-primary"))
	var later atomic.Int64
	server := w.listen("mongo-primary", policy, func(c *mesh.ListenConfig) {
		c.Authorizer = mesh.NewAuthorizer(mesh.AuthorizerConfig{
			Service: "mongo-primary", Policy: policy,
			Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) },
		})
	})
	server.echo(t)
	dialer, _ := w.dialer("web", nil)
	conn := mustDial(t, dialer, server.instance())
	later.Store(int64(mesh.DefaultMaxAge + time.Minute))
	if _, err := dialer.DialInstance(t.Context(), server.instance()); !errors.Is(err, mesh.ErrDenied) {
		t.Errorf("got %v", err)
	}
	roundTrip(t, conn, "still here")
	policy.confirm(time.Now().Add(time.Duration(later.Load())), allow("web", "mongo-primary"))
	roundTrip(t, mustDial(t, dialer, server.instance()), "again")
}

func TestAHungAgentEndsInADenyAtTheDeadline(t *testing.T) {
	w := newWorld(t)
	agent := &verdictsOf{answer: func(ctx context.Context) (bool, error) {
		<-ctx.Done()
		// Even an answer is too late now.
		return true, nil
	}}
	server := w.listen("mongo-primary", nil, func(c *mesh.ListenConfig) {
		c.Authorizer = mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: "mongo-primary", Policy: newPolicy(), Fallback: agent})
		c.HandshakeTimeout = 200 * time.Millisecond
	})
	server.echo(t)
	dialer, _ := w.dialer("web", nil)
	began := time.Now()
	if _, err := dialer.DialInstance(t.Context(), server.instance()); err == nil {
		t.Error("served")
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
	eventually(t, "the client is refused", func() bool {
		c := server.table.Counters()
		return c.Denied+c.HandshakeFailed == 1
	})
	if c := server.table.Counters(); c.Accepted != 0 || agent.asked.Load() != 1 {
		t.Errorf("counters: %+v, asked %d", c, agent.asked.Load())
	}
}

func TestAConnectionThatTheAgentAllowedIsJudgedByThePolicyThatArrives(t *testing.T) {
	w := newWorld(t)
	policy := newPolicy()
	agent := &verdictsOf{answer: func(context.Context) (bool, error) { return true, nil }}
	server := w.listen("mongo-primary", policy, func(c *mesh.ListenConfig) {
		c.Authorizer = mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: "mongo-primary", Policy: policy, Fallback: agent})
	})
	server.echo(t)
	dialer, _ := w.dialer("web", nil)
	conn := mustDial(t, dialer, server.instance())
	roundTrip(t, conn, "by the agent's word")
	policy.set()
	if err := ended(t, conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
}

func TestIntentionsOfAnotherServiceServeNobody(t *testing.T) {
	w := newWorld(t)
	policy := allowing(allow("*", "*"))
	server := w.listen("mongo-primary", policy, func(c *mesh.ListenConfig) {
		c.Authorizer = mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: "mongo-secondary", Policy: policy})
	})
	server.echo(t)
	dialer, _ := w.dialer("web", nil)
	if _, err := dialer.DialInstance(t.Context(), server.instance()); err == nil {
		t.Error("served")
	}
}
