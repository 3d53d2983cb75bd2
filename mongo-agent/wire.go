package main

import (
	"context"
	"io"
	"log/slog"
	"time"

	"sluice/consul"
	"sluice/internal/service"
	"sluice/mesh"
	"sluice/mongo-agent/mongod"
)

// run is the whole process.
func run(ctx context.Context, args []string, _ func(string) string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stdout)
	if err != nil {
		return err
	}
	key, err := mongod.ReadKey(o.KeyFile)
	if err != nil {
		return err
	}
	var password mongod.Secret
	if o.AppUser != "" {
		if password, err = mongod.ReadPassword(o.AppPasswordFile); err != nil {
			return err
		}
	}
	logger := o.Logger(stderr)
	client, err := consul.Open(consul.Config{
		Address: o.ConsulAddress, TokenFile: o.TokenFile, Datacenter: o.Datacenter, BreakGlass: o.BreakGlass, Logger: logger,
	})
	if err != nil {
		return err
	}
	group := &service.Group{Logger: logger}
	n, registrar := connect(client, o.Failover, group)
	return assemble(ctx, assembly{
		options: o, key: key, password: password, network: n,
		logger: logger, group: group, registrar: registrar,
	})
}

// connect makes the Consul side of the agent and adds its watches to group. The
// registrar is added last of all, by assemble: a stop begins with taking back
// what was announced.
func connect(client *consul.Client, failover []string, group *service.Group) (network, *consul.Registrar) {
	n := network{
		Credentials: map[string]mesh.CredentialSource{},
		Policies:    map[string]mesh.PolicySource{},
		Verdicts:    client.Verdicts(),
		Store:       client,
	}
	source := client.SourcePolicy(replService)
	group.Add("intentions of "+replService, source.Run)
	n.ReplSource = source
	resolver := client.ResolverIn(failover, replService)
	group.Add("resolver", resolver.Run)
	n.Resolver = resolver
	for _, name := range []string{primaryService, secondaryService, replService} {
		identity := client.Identity(name)
		group.Add("identity "+name, identity.Run)
		n.Credentials[name] = identity
		policy := client.DestinationPolicy(name)
		group.Add("intentions for "+name, policy.Run)
		n.Policies[name] = policy
	}
	registrar := client.Registrar()
	n.Registrar = registrar
	return n, registrar
}

// assembly is what a process is put together from.
type assembly struct {
	options   options
	key       mongod.Secret
	password  mongod.Secret
	network   network
	logger    *slog.Logger
	group     *service.Group
	registrar interface{ Run(context.Context) error }
	// built is told of the agent before it runs; may be nil.
	built func(*agent)
}

// assemble constructs the agent, adds its parts to the group and runs it.
func assemble(ctx context.Context, s assembly) error {
	a, err := newAgent(s.options, s.key, s.network, s.logger)
	if err != nil {
		return err
	}
	ops, err := service.ListenOps(s.options.ListenLoopback(opsPort), s.logger, s.options.AdminHosts...)
	if err != nil {
		return err
	}
	a.reports(ops)
	s.group.Add("operations", ops.Run)
	s.group.Add("mongod client", a.keepClient)
	s.group.Add("dialer", a.dialer.Run)
	s.group.Add("control", a.serveControl)
	s.group.Add("heartbeats", a.circle.Run)
	for _, peer := range a.peers {
		s.group.Add("member "+peer.Addr().String(), peer.Run)
	}
	s.group.Add("role", func(ctx context.Context) error {
		// Whoever finds us in the catalog must find somebody who can prove who he is.
		a.awaitIdentities(ctx)
		return a.follow(ctx)
	})
	s.group.Add("elections", a.assist)
	s.group.Add("sync source", a.steer)
	if s.options.initiates() {
		s.group.Add("initiation", a.initiate)
	}
	if s.options.AppUser != "" {
		s.group.Add("application user", func(ctx context.Context) error { return a.keepUser(ctx, s.password) })
	}
	s.group.Add("registrar", s.registrar.Run)
	s.group.Add("hand-over", a.handOverAtEnd)
	if s.built != nil {
		s.built(a)
	}
	return s.group.Run(ctx)
}

// keepClient closes the client of mongod at the end.
func (a *agent) keepClient(ctx context.Context) error {
	<-ctx.Done()
	mongod.Close(a.system)
	return nil
}

// Bounds of the wait for identities at the start.
const (
	identityWait = 30 * time.Second
	identityPoll = 25 * time.Millisecond
)

// awaitIdentities waits until there are credentials for every service that the
// node may serve. After identityWait the role is followed all the same: what has an
// identity is served, and the listeners refuse for what has none.
func (a *agent) awaitIdentities(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, identityWait)
	defer cancel()
	ticker := time.NewTicker(identityPoll)
	defer ticker.Stop()
	for name, source := range a.network.Credentials {
		for {
			_, err := source.Credentials()
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				a.logger.Warn("no identity yet", "service", name, "err", err)
				return
			case <-ticker.C:
			}
		}
	}
}
