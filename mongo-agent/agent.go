package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"sluice/consul"
	"sluice/mesh"
	"sluice/mongo-agent/hello"
	"sluice/mongo-agent/mongod"
	"sluice/mongo-agent/relay"
	"sluice/mongo-agent/replset"
	"sluice/mongo-agent/role"
)

// The services that an agent offers, and their ports.
const (
	primaryService   = "mongo-primary"
	secondaryService = "mongo-secondary"
	replService      = "mongo-repl"

	primaryPort   = 27018
	secondaryPort = 27019
	replPort      = 27020
	opsPort       = 27021
)

const (
	// registrationTTL bounds how long a dead agent stays in the catalog as
	// healthy.
	registrationTTL = 5 * time.Second
	// registeredTimeout bounds the wait for Consul's agent to hold a new
	// registration, for the report alone.
	registeredTimeout = 10 * time.Second
	guardTimeout      = time.Second
	peerTimeout       = time.Second
)

// registrar publishes service instances; *consul.Registrar is one.
type registrar interface {
	Set(consul.Registration)
	Remove(id string)
	Pass(id, note string)
	Wait(ctx context.Context) error
}

// network is what the agent needs of the mesh and of Consul.
type network struct {
	Credentials map[string]mesh.CredentialSource
	Policies    map[string]mesh.PolicySource // by destination
	ReplSource  mesh.PolicySource            // what mongo-repl may call
	Verdicts    mesh.Verdicts                // may be nil
	Resolver    mesh.Resolver
	Registrar   registrar
	Store       replset.Store
}

// agent follows one mongod and acts on its role. One goroutine, that of follow,
// drives the machine, the doors and the registrations.
type agent struct {
	options
	key     mongod.Secret
	network network
	logger  *slog.Logger
	table   *mesh.Table
	dialer  *mesh.Dialer
	board   *board
	peers   []*relay.Peer

	machine *role.Machine
	doors   map[role.State]*relay.Door
	repl    *relay.Door
	// trusted is the mongod process that was seen to demand authentication of
	// everybody; empty is none.
	trusted string
	waiting sync.WaitGroup
}

// newAgent binds the listeners for the other members, so that they exist before
// mongod looks for them.
func newAgent(o options, key mongod.Secret, n network, logger *slog.Logger) (*agent, error) {
	machine := role.New(role.Config{Set: o.Set, Me: o.own().Address}, time.Now())
	a := &agent{
		options: o, key: key, network: n, logger: logger,
		table: mesh.NewTable(time.Now), machine: machine,
		board: newBoard(o.Node, machine.Snapshot()),
	}
	a.doors = map[role.State]*relay.Door{
		role.Primary:   a.door(primaryService, primaryPort),
		role.Secondary: a.door(secondaryService, secondaryPort),
	}
	if o.Flat {
		return a, nil
	}
	a.repl = a.door(replService, replPort)
	a.dialer = mesh.NewDialer(mesh.DialerConfig{
		Credentials: n.Credentials[replService], Resolver: n.Resolver, Policy: n.ReplSource,
		Table: a.table, Timeout: peerTimeout, Logger: logger,
	})
	for _, m := range o.others() {
		peer, err := relay.ListenPeer(relay.PeerConfig{
			Node: m.Node, Address: m.Address, Service: replService,
			Resolver: n.Resolver, Dialer: a.dialer, Timeout: peerTimeout, Logger: logger,
		})
		if err != nil {
			return nil, err
		}
		a.peers = append(a.peers, peer)
	}
	return a, nil
}

func (a *agent) door(service string, port int) *relay.Door {
	return relay.NewDoor(relay.DoorConfig{
		Service: service, Address: a.Listen(port), Mongod: a.Mongod, Logger: a.logger,
		Listen: mesh.ListenConfig{
			Credentials: a.network.Credentials[service],
			Authorizer: mesh.NewAuthorizer(mesh.AuthorizerConfig{
				Service: service, Policy: a.network.Policies[service], Fallback: a.network.Verdicts,
			}),
			Table: a.table, Logger: a.logger,
		},
	})
}

// follow follows mongod until ctx ends, then cuts everything.
func (a *agent) follow(ctx context.Context) error {
	follower := hello.New(hello.Config{Address: a.Mongod, Logger: a.logger})
	events := make(chan hello.Event)
	following, stop := context.WithCancel(ctx)
	defer a.close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = follower.Run(following, events)
	}()
	defer func() { stop(); <-done }()
	if !a.Flat {
		a.publish(replService, replPort, map[string]string{"member": a.own().Address, "set": a.Set})
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			if err := a.observe(ctx, e); err != nil {
				return err
			}
		}
	}
}

// close cuts every door and waits until nothing is left.
func (a *agent) close() {
	for _, state := range []role.State{role.Primary, role.Secondary} {
		a.network.Registrar.Remove(a.instance(serviceOf(state)))
		a.doors[state].Close()
	}
	if a.repl != nil {
		a.network.Registrar.Remove(a.instance(replService))
		a.repl.Close()
	}
	a.waiting.Wait()
}

// observe takes one observation of mongod and acts on it.
func (a *agent) observe(ctx context.Context, e hello.Event) error {
	before := a.machine.Snapshot()
	var actions []role.Action
	switch {
	case e.Reply == nil:
		if e.Loss == role.Ended {
			a.distrust("mongod has ended")
		}
		actions = a.machine.Failed(e.At, e.Loss, e.Reason)
	default:
		if err := a.guard(ctx, e.Reply.Process); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			a.distrust(err.Error())
			actions = a.machine.Failed(time.Now(), role.Distrusted, err.Error())
			break
		}
		actions = a.machine.Heard(e.At, *e.Reply)
	}
	return a.act(ctx, e.At, before, actions)
}

// guard makes sure that the mongod process lets nobody in without
// authentication, before anybody is led to it: through a relay, everybody comes
// from its own loopback.
func (a *agent) guard(ctx context.Context, process string) error {
	if process == a.trusted {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, guardTimeout)
	defer cancel()
	client, err := mongod.System(a.Mongod, a.key)
	if err != nil {
		return err
	}
	defer mongod.Close(client)
	stranger, err := mongod.Anonymous(a.Mongod)
	if err != nil {
		return err
	}
	defer mongod.Close(stranger)
	if err := mongod.Guarded(ctx, client, stranger); err != nil {
		if before := a.machine.Snapshot(); before.Reason != err.Error() {
			a.logger.Error("mongod is not served", "err", err)
		}
		return err
	}
	a.trusted = process
	if a.repl != nil {
		return a.repl.Open()
	}
	return nil
}

// distrust shuts the way to mongod for the other members, until guard has seen
// the next process.
func (a *agent) distrust(reason string) {
	a.trusted = ""
	if a.repl != nil {
		a.repl.Cut(reason)
	}
}

// act does the actions in their order and notes when each was complete.
func (a *agent) act(ctx context.Context, detected time.Time, before role.Snapshot, actions []role.Action) error {
	now := a.machine.Snapshot()
	a.board.set(now)
	t := transition{From: before.State, To: now.State, Term: now.Term, Reason: now.Reason, Detected: detected}
	since := func() *millis { d := millis(time.Since(detected)); return &d }
	registered := false
	for _, action := range actions {
		service := serviceOf(action.Role)
		switch action.Do {
		case role.Cut:
			t.Closed = a.doors[action.Role].Cut("role changed: " + service + " is gone")
			t.Cut = since()
			a.network.Registrar.Remove(a.instance(service))
		case role.Accept:
			if err := a.doors[action.Role].Open(); err != nil {
				return fmt.Errorf("offer %s: %w", service, err)
			}
			t.Accepted = since()
		case role.Register:
			a.publish(service, portOf(action.Role), a.meta(action.Term))
			registered = true
		}
	}
	if before.State == now.State && t.Cut == nil && t.Accepted == nil {
		return nil
	}
	a.logger.Info("role", "from", t.From, "to", t.To, "term", t.Term, "reason", t.Reason, "cut", t.Closed)
	amend := a.board.record(t)
	if registered {
		a.waiting.Go(func() { a.awaitRegistered(ctx, detected, amend) })
	}
	return nil
}

func (a *agent) awaitRegistered(ctx context.Context, detected time.Time, amend func(func(*transition))) {
	ctx, cancel := context.WithTimeout(ctx, registeredTimeout)
	defer cancel()
	if err := a.network.Registrar.Wait(ctx); err != nil {
		if !errors.Is(err, context.Canceled) {
			a.logger.Warn("role is not in the catalog yet", "err", err)
		}
		return
	}
	took := millis(time.Since(detected))
	amend(func(t *transition) { t.Registered = &took })
}
