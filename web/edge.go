package main

import (
	"context"
	"log/slog"
	"time"

	"sluice/consul"
	"sluice/internal/service"
	"sluice/mesh"
	"sluice/mesh/mongowire"
	"sluice/web/blog"
	"sluice/web/site"
)

// edge is this process' place in the mesh: who it is, whom it lets in and whom
// it may call.
type edge struct {
	identity *consul.Identity
	inward   *consul.Intentions // intentions with us as destination
	outward  *consul.Intentions // and with us as source
	verdicts mesh.Verdicts
	resolver *consul.Resolver
	table    *mesh.Table
	dialer   *mesh.Dialer
	// members are where the primary may be when the catalog does not know.
	members *mesh.Roster
	ways    []way
	// datacenters are the own one and those whose processes may call and be called.
	datacenters []string
}

// way is one way to the database, with the store at its end.
type way struct {
	store    *blog.Store
	upstream *mesh.Upstream
}

func (w way) database() site.Database { return site.Database{Store: w.store, Upstream: w.upstream} }

func newEdge(client *consul.Client, place service.Common, logger *slog.Logger) *edge {
	e := &edge{
		datacenters: append([]string{place.Datacenter}, place.Failover...),
		identity:    client.Identity(name),
		inward:      client.DestinationPolicy(name),
		outward:     client.SourcePolicy(name),
		verdicts:    client.Verdicts(),
		resolver:    client.ResolverIn(place.Failover, primary, secondary),
		table:       mesh.NewTable(time.Now),
	}
	e.dialer = mesh.NewDialer(mesh.DialerConfig{
		Credentials: e.identity, Resolver: e.resolver, Policy: e.outward, Table: e.table, Logger: logger,
	})
	e.members = mesh.NewRoster(mesh.RosterConfig{Resolver: e.resolver, Services: []string{primary, secondary}, Door: primaryDoor})
	return e
}

func (e *edge) add(group *service.Group) {
	group.Add("identity", e.identity.Run)
	group.Add("intentions as destination", e.inward.Run)
	group.Add("intentions as source", e.outward.Run)
	group.Add("resolver", e.resolver.Run)
	group.Add("mesh dialer", e.dialer.Run)
	group.Add("members of the set", e.members.Run)
}

func (e *edge) listen(address string, logger *slog.Logger) (*mesh.Listener, error) {
	return mesh.Listen(address, mesh.ListenConfig{
		Credentials:  e.identity,
		Authorizer:   mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: name, Policy: e.inward, Fallback: e.verdicts, Datacenters: e.datacenters}),
		Table:        e.table,
		Logger:       logger,
		DrainTimeout: drain + drainConnections, // it begins with that of the requests
	})
}

// open makes the way to one service and the store behind it.
func (e *edge) open(group *service.Group, cfg blog.Config, logger *slog.Logger) (way, error) {
	out := mesh.UpstreamConfig{
		Service: cfg.Service, Address: cfg.Address, Dialer: e.dialer, DrainTimeout: drainConnections, Logger: logger,
		Prefer: newestTerm,
	}
	if cfg.Service == secondary {
		out.Prefer = nearest(e.datacenters)
	}
	if cfg.Service == primary {
		out.Epoch, out.Candidates, out.Protocol = term, e.members.Candidates, mongowire.Protocol()
	}
	upstream, err := mesh.ListenUpstream(out)
	if err != nil {
		return way{}, err
	}
	cfg.Way = upstream
	cfg.Probe = func(ctx context.Context) error {
		conn, err := e.dialer.Dial(ctx, cfg.Service)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	store, err := blog.Open(cfg)
	if err != nil {
		return way{}, err
	}
	e.ways = append(e.ways, way{store, upstream})
	group.Add("upstream "+cfg.Service, upstream.Run)
	group.Add("store of "+cfg.Service, store.Run)
	return way{store, upstream}, nil
}

func (e *edge) report() mesh.ReportConfig {
	var upstreams []*mesh.Upstream
	for _, w := range e.ways {
		upstreams = append(upstreams, w.upstream)
	}
	return mesh.ReportConfig{
		Credentials: []mesh.CredentialSource{e.identity},
		Policies: []mesh.PolicyRef{
			{Service: name, Side: mesh.SideDestination, Source: e.inward},
			{Service: name, Side: mesh.SideSource, Source: e.outward},
		},
		Table:     e.table,
		Upstreams: upstreams,
	}
}
