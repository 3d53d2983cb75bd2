package client

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"

	"sluice/consul"
	"sluice/identity"
	"sluice/mesh"
)

// The services of the set's members, and where each takes connections.
const (
	primaryService   = "mongo-primary"
	secondaryService = "mongo-secondary"
	primaryDoor      = 27018
	secondaryDoor    = 27019
)

// MembersConfig says who dials the members, and which.
type MembersConfig struct {
	// Consul is the node's agent, with the token of the service web.
	Consul consul.Config
	// ReplicaSet is the set's name, Members its addresses as the set knows them.
	ReplicaSet string
	Members    []string
}

// Members dials the members of a replica set over the mesh, as the service web.
// Run must be called, and Close after the last use.
type Members struct {
	cfg    MembersConfig
	consul *consul.Client
	dialer *mesh.MemberDialer
	actors []func(context.Context) error
	ready  func() error
}

// OpenMembers prepares the way; nothing is dialled before Run.
func OpenMembers(cfg MembersConfig) (*Members, error) {
	if len(cfg.Members) == 0 || cfg.ReplicaSet == "" {
		return nil, errors.New("open the members: the set's name and its members are required")
	}
	api, err := consul.Open(cfg.Consul)
	if err != nil {
		return nil, err
	}
	m := &Members{cfg: cfg, consul: api}
	who, outward, resolver := api.Identity("web"), api.SourcePolicy("web"), api.Resolver(primaryService, secondaryService)
	dialer := mesh.NewDialer(mesh.DialerConfig{
		Credentials: who, Resolver: resolver, Policy: outward, Table: mesh.NewTable(time.Now),
	})
	// Where a member may be while the catalog does not know: at either door.
	var rosters []*mesh.Roster
	for _, d := range []door{{primaryService, primaryDoor}, {secondaryService, secondaryDoor}} {
		rosters = append(rosters, mesh.NewRoster(mesh.RosterConfig{
			Resolver: resolver, Services: []string{primaryService, secondaryService}, Door: d.of,
		}))
	}
	m.dialer, err = mesh.NewMemberDialer(mesh.MemberDialerConfig{
		Dialer: dialer, Leading: primaryService, Following: secondaryService,
		Member: func(i mesh.Instance) string { return i.Meta["member"] },
		Epoch:  term,
		Candidates: func() []mesh.Instance {
			return slices.Concat(rosters[0].Candidates(), rosters[1].Candidates())
		},
	})
	if err != nil {
		api.Close()
		return nil, err
	}
	m.ready = who.Ready
	m.actors = []func(context.Context) error{
		who.Run, outward.Run, resolver.Run, dialer.Run, rosters[0].Run, rosters[1].Run, m.dialer.Run,
	}
	return m, nil
}

// Run keeps the way open until ctx ends, which is no error.
func (m *Members) Run(ctx context.Context) error {
	actors, ctx := errgroup.WithContext(ctx)
	for _, run := range m.actors {
		actors.Go(func() error { return run(ctx) })
	}
	return actors.Wait()
}

// Close gives back what OpenMembers took. Call it after Run has returned.
func (m *Members) Close() { m.consul.Close() }

// AwaitReady waits for a certificate, without which nothing can be dialled.
func (m *Members) AwaitReady(ctx context.Context) error {
	for {
		err := m.ready()
		if err == nil {
			return nil
		}
		if !wait(ctx, firstPause) {
			return err
		}
	}
}

// Options lead to the set by all of its members.
func (m *Members) Options() *options.ClientOptions {
	return options.Client().SetHosts(m.cfg.Members).SetReplicaSet(m.cfg.ReplicaSet).
		SetDialer(m.dialer).
		SetConnectTimeout(2 * time.Second).
		SetHeartbeatInterval(500 * time.Millisecond)
}

// term is the election term that an instance was registered with; 0 if it names
// none.
func term(instance mesh.Instance) int64 {
	number, err := strconv.ParseInt(instance.Meta["term"], 10, 64)
	if err != nil {
		return 0
	}
	return max(number, 0)
}

// door is where a member takes connections in one role.
type door struct {
	service string
	port    int
}

// of returns the door of the member behind an instance, whose role may be the
// other one. The term is left out: it is that of the role that was registered.
func (d door) of(instance mesh.Instance) (mesh.Instance, bool) {
	host, _, err := net.SplitHostPort(instance.Address)
	if err != nil {
		return mesh.Instance{}, false
	}
	id, err := identity.New(instance.ID.TrustDomain(), instance.ID.Datacenter(), d.service)
	if err != nil {
		return mesh.Instance{}, false
	}
	return mesh.Instance{
		ServiceID: d.service + "-" + instance.Node, Node: instance.Node,
		Address: net.JoinHostPort(host, strconv.Itoa(d.port)), ID: id,
		Meta: map[string]string{"member": instance.Meta["member"]},
	}, true
}
