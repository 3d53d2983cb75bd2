package main

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"sluice/consul"
	"sluice/mesh"
	"sluice/mongo-agent/heartbeat"
	"sluice/mongo-agent/hello"
	"sluice/mongo-agent/mongod"
	"sluice/mongo-agent/relay"
	"sluice/mongo-agent/replset"
	"sluice/mongo-agent/role"
	"sluice/mongo-agent/vitals"
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
	controlPort   = 27022
)

const (
	// registrationTTL bounds how long a dead agent stays in the catalog as
	// healthy.
	registrationTTL = 5 * time.Second
	// registeredTimeout bounds the wait for Consul's agent to hold a new
	// registration, for the report alone.
	registeredTimeout = 10 * time.Second
	guardTimeout      = time.Second
	// doubtTime is how close together two connections to mongod must end to be
	// taken for its end while its process is seen to run.
	doubtTime   = 500 * time.Millisecond
	peerTimeout = time.Second
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
	locator *relay.Locator
	// peers are the ways to the other members; none where members reach each
	// other without agents.
	peers    []*relay.Peer
	circle   *heartbeat.Circle
	self     *self
	system   *mongo.Client // as the set's internal user
	follower *hello.Follower
	watch    *vitals.Watch
	lease    lease
	record   elections
	// electable says that the own member is one that can be elected.
	electable atomic.Bool

	machine *role.Machine
	doors   map[role.State]*relay.Door
	repl    *relay.Door
	// trusted is the mongod process that was seen to demand authentication of
	// everybody; empty is none.
	trusted string
	// planned says that a hand-over is under way.
	planned bool
	// handingOver is the successor of a primary that has stopped taking writes by
	// itself, handingTerm the term in which it is, or was, primary.
	handingOver string
	handingTerm int64
	// handing is held while somebody hands over.
	handing sync.Mutex
	// ended is when a connection to mongod ended last.
	ended time.Time
	// over is closed when follow has ended.
	over chan struct{}
	// retired tells when to end what retire began; nil while nothing is.
	retired <-chan time.Time
	process vitals.Event
	// requests are done by follow's goroutine.
	requests chan func(context.Context) error
	waiting  sync.WaitGroup
}

// newAgent binds the listeners for the other members, so that they exist before
// mongod looks for them.
func newAgent(o options, key mongod.Secret, n network, logger *slog.Logger) (*agent, error) {
	machine := role.New(role.Config{Set: o.Set, Me: o.own().Address}, time.Now())
	system, err := mongod.System(o.Mongod, key)
	if err != nil {
		return nil, err
	}
	a := &agent{
		options: o, key: key, network: n, logger: logger, system: system,
		table: mesh.NewTable(time.Now), machine: machine,
		board:    newBoard(o.Node, machine.Snapshot()),
		locator:  &relay.Locator{Service: replService, Resolver: n.Resolver},
		follower: hello.New(hello.Config{Address: o.Mongod, Logger: logger}),
		watch:    vitals.New(vitals.Config{Address: o.Mongod}),
		requests: make(chan func(context.Context) error), over: make(chan struct{}),
	}
	a.dialer = mesh.NewDialer(mesh.DialerConfig{
		Credentials: n.Credentials[replService], Resolver: n.Resolver, Policy: n.ReplSource,
		Table: a.table, Timeout: peerTimeout, Logger: logger,
	})
	a.circle = heartbeat.New(heartbeat.Config{
		Nodes: o.otherNodes(), Interval: o.profile.Heartbeat, Limit: o.profile.Limit, Dial: a.dialControl, Logger: logger,
	})
	a.self = newSelf(a.circle, o.Node, o.own().Address)
	a.lease = lease{circle: a.circle, length: o.profile.Limit}
	a.doors = map[role.State]*relay.Door{
		role.Primary:   a.door(primaryService, primaryPort),
		role.Secondary: a.door(secondaryService, secondaryPort),
	}
	if o.Flat {
		return a, nil
	}
	a.repl = a.door(replService, replPort)
	for _, m := range o.others() {
		peer, err := relay.ListenPeer(relay.PeerConfig{
			Node: m.Node, Address: m.Address, Locator: a.locator, Dialer: a.dialer, Timeout: peerTimeout, Logger: logger,
			Hold: a.hold(),
		})
		if err != nil {
			return nil, err
		}
		a.peers = append(a.peers, peer)
	}
	return a, nil
}

func (a *agent) door(service string, port int) *relay.Door {
	door := relay.DoorConfig{
		Service: service, Address: a.Listen(port), Mongod: a.Mongod, Logger: a.logger,
		Listen: a.listenConfig(service),
	}
	if service == primaryService {
		door.Allowed = a.lease.valid
	}
	return relay.NewDoor(door)
}

// listenConfig says who may call a service of this node.
func (a *agent) listenConfig(service string) mesh.ListenConfig {
	return mesh.ListenConfig{
		Credentials: a.network.Credentials[service],
		Authorizer: mesh.NewAuthorizer(mesh.AuthorizerConfig{
			Service: service, Policy: a.network.Policies[service], Fallback: a.network.Verdicts,
			Datacenters: append([]string{a.Datacenter}, a.Failover...),
		}),
		Table: a.table, Logger: a.logger,
	}
}
