package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/pprof"
	"sync/atomic"
	"time"

	"sluice/consul"
	"sluice/gateway/accesslog"
	"sluice/gateway/auth"
	"sluice/gateway/config"
	"sluice/gateway/errorpages"
	"sluice/gateway/listen"
	"sluice/gateway/override"
	"sluice/gateway/proxy"
	"sluice/gateway/tcp"
	"sluice/gateway/trace"
	"sluice/internal/service"
	"sluice/internal/service/tracing"
	"sluice/mesh"
)

// gateway is the process, put together from its parts.
type gateway struct {
	cfg    config.Config
	log    *slog.Logger
	stdout io.Writer
	group  service.Group

	client    *consul.Client
	ops       *service.Ops
	identity  *consul.Identity
	policy    *consul.Intentions
	catalog   *consul.ResolverFederated
	dialer    *mesh.Dialer
	table     *mesh.Table
	overrides *overrides
	auth      *auth.Guard
	pages     *errorpages.Pages // nil for the gateway's own alone
	access    *accesslog.Log
	streams   *tcp.Table
	proxy     *proxy.Proxy
	listeners []*listen.Server
	registrar *consul.Registrar
	standIns  *registry
	tracer    *trace.Tracer
	getenv    func(string) string
	// draining is true from the moment at which the process is told to end.
	draining atomic.Bool
	closers  []io.Closer
}

// assemble makes every part and binds every address; nothing runs yet.
func assemble(cfg config.Config, getenv func(string) string, stdout, stderr io.Writer) (*gateway, error) {
	g := &gateway{cfg: cfg, getenv: getenv, log: cfg.Logger(stderr), stdout: stdout, streams: tcp.NewTable(nil)}
	for _, step := range []func() error{g.openProfile, g.openConsul, g.openFiles, g.openTracer, g.makeProxy, g.openListeners} {
		if err := step(); err != nil {
			g.close()
			return nil, err
		}
	}
	g.registrar = g.client.Registrar()
	g.registrar.Set(g.registration())
	if err := g.admin(); err != nil {
		g.close()
		return nil, err
	}
	g.join()
	return g, nil
}

// close gives back what was opened.
func (g *gateway) close() {
	for i := len(g.closers) - 1; i >= 0; i-- {
		_ = g.closers[i].Close()
	}
}

type closerFunc func()

func (f closerFunc) Close() error { f(); return nil }

// openProfile starts the profile of the processor, if the flags ask for it. It ends
// after everything else, and is of no use before.
func (g *gateway) openProfile() error {
	if g.cfg.CPUProfile == "" {
		return nil
	}
	file, err := os.OpenFile(g.cfg.CPUProfile, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("-cpu-profile: %w", err)
	}
	g.closers = append(g.closers, file)
	if err := pprof.StartCPUProfile(file); err != nil {
		return fmt.Errorf("-cpu-profile: %w", err)
	}
	g.closers = append(g.closers, closerFunc(pprof.StopCPUProfile))
	return nil
}

func (g *gateway) openConsul() error {
	client, err := consul.Open(consul.Config{
		Address: g.cfg.ConsulAddress, TokenFile: g.cfg.TokenFile, Datacenter: g.cfg.Datacenter, BreakGlass: g.cfg.BreakGlass, Logger: g.log,
	})
	if err != nil {
		return err
	}
	g.client = client
	g.closers = append(g.closers, closerFunc(client.Close))
	if g.ops, err = service.ListenOps(g.cfg.Admin.String(), g.log, g.cfg.AdminHosts...); err != nil {
		return err
	}
	g.identity = client.Identity(name)
	g.policy = client.SourcePolicy(name)
	own := client.ResolverAll(g.cfg.Prefix)
	if g.cfg.AllowPlain {
		own = client.ResolverAllWithPlain(g.cfg.Prefix)
	}
	g.catalog = client.ResolverFederated(own, others(g.cfg))
	g.table = mesh.NewTable(time.Now)
	g.dialer = mesh.NewDialer(mesh.DialerConfig{
		Credentials: g.identity, Resolver: g.catalog, Policy: g.policy, Table: g.table, Logger: g.log, Timeout: g.cfg.Dial,
	})
	return nil
}

// openTracer makes what sends traces, if the environment asks for it.
func (g *gateway) openTracer() (err error) {
	if !tracing.Wanted(g.getenv) {
		return nil
	}
	provider, err := tracing.Open(context.Background(), tracing.Config{Service: name, Version: service.Version(), Node: g.cfg.Node, Scope: "sluice/gateway", Logger: g.log})
	g.tracer = &trace.Tracer{Provider: provider}
	return err
}

// openFiles opens what the flags name: passwords, error pages and the access log.
func (g *gateway) openFiles() (err error) {
	if len(g.cfg.Auth) > 0 {
		if g.auth, err = auth.Open(auth.Config{Schemes: g.cfg.Auth, Changed: g.passwordsChanged, Logger: g.log}); err != nil {
			return err
		}
	}
	if g.cfg.ErrorPages != "" {
		if g.pages, err = errorpages.Open(errorpages.Config{Dir: g.cfg.ErrorPages, Changed: g.pagesChanged, Logger: g.log}); err != nil {
			return fmt.Errorf("-error-pages: %w", err)
		}
	}
	out := g.stdout
	switch g.cfg.AccessLog {
	case config.NoAccessLog:
		return nil
	case config.Stdout:
	default:
		file, err := accesslog.OpenFile(g.cfg.AccessLog)
		if err != nil {
			return fmt.Errorf("access log: %w", err)
		}
		g.closers = append(g.closers, file)
		out = file
	}
	g.access, err = accesslog.New(accesslog.Config{
		Output: out, Format: g.cfg.AccessLogFormat, Secrets: g.cfg.MaskedParameters(), Logger: g.log,
	})
	return err
}

func (g *gateway) makeProxy() error {
	g.standIns = newRegistry(g.client.Registrar(), g.cfg)
	cfg := proxyConfig(g.cfg)
	cfg.Catalog, cfg.Dialer, cfg.Credentials, cfg.Policy, cfg.Auth = g.catalog, g.dialer, g.identity, g.policy, g.auth
	cfg.Registry, cfg.Healthy, cfg.Absent, cfg.Streams = g.standIns, g.healthy, g.absent, g.streams
	cfg.Logger, cfg.Access, cfg.Registerer = g.log, g.access, g.ops.Registry()
	if g.tracer != nil {
		cfg.Tracer = g.tracer
	}
	if g.pages != nil {
		cfg.ErrorPages = g.pages
	}
	if g.cfg.OverrideKey != "" {
		g.overrides = newOverrides(g.client.KVTreeWatch(g.cfg.OverrideKey),
			override.Config{Datacenter: g.cfg.Datacenter, Match: g.cfg.Match, Check: cfg.Check}, g.log)
		cfg.Overrides = g.overrides
	}
	g.proxy = proxy.New(cfg)
	return nil
}

// absent names the unhealthy instances of a service, for explanations.
func (g *gateway) absent(ctx context.Context, service string) ([]proxy.Absent, error) {
	list, err := g.client.Unhealthy(ctx, service, g.cfg.AllowPlain)
	if err != nil {
		return nil, err
	}
	absent := make([]proxy.Absent, 0, len(list))
	for _, u := range list {
		absent = append(absent, proxy.Absent{
			Service: service, Instance: u.ServiceID, Node: u.Node, Address: u.Address,
			Why: fmt.Sprintf("check %q is %s: %.300s", u.Check, u.Status, u.Output),
		})
	}
	return absent, nil
}

// streamEnded tells of a TCP connection, and why it has failed.
func (g *gateway) streamEnded(info tcp.Info, err error) {
	g.proxy.StreamEnded(info, err)
	if err != nil && !errors.Is(err, tcp.ErrIdle) {
		g.log.Info("TCP connection ended", "client", info.Client, "server", info.Server, "server_name", info.ServerName,
			"service", info.Service, "instance", info.Instance, "err", err)
	}
}

// join adds the parts to the group. What others rely on comes first, because a
// stop goes in the reverse order: it takes the registration back, turns readiness
// red, lets requests end, and only then lets go of identity and catalog.
func (g *gateway) join() {
	g.group.Logger = g.log
	g.group.Grace, g.group.Bound = stopTimes(g.cfg.StopDelay, g.cfg.Drain)
	g.group.Add("headroom", newHeadroom().run)
	g.group.Add("operations endpoint", g.ops.Run)
	g.group.Add("identity", g.identity.Run)
	g.group.Add("intentions", g.policy.Run)
	g.group.Add("catalog", g.catalog.Run)
	g.group.Add("mesh dialer", g.dialer.Run)
	if g.access != nil {
		g.group.Add("access log", g.access.Run)
	}
	if g.tracer != nil {
		g.group.Add("traces", g.tracer.Run)
	}
	if g.auth != nil {
		g.group.Add("passwords", g.auth.Run)
	}
	if g.pages != nil {
		g.group.Add("error pages", g.pages.Run)
	}
	if g.overrides != nil {
		g.group.Add("override keys", g.overrides.watch.Run)
		g.group.Add("overrides", g.overrides.Run)
	}
	g.group.Add("routes", func(ctx context.Context) error {
		if g.overrides != nil {
			g.overrides.await(ctx)
		}
		return g.proxy.Run(ctx)
	})
	listeners := newListening(g.listeners)
	g.group.Add("listeners", listeners.run)
	g.group.Add("a listener", listeners.watch)
	g.group.Add("registrations of routes", g.standIns.registrar.Run)
	// Added last, so that it ends first.
	g.group.Add("registration", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { g.draining.Store(true) })
		defer stop()
		err := g.registrar.Run(ctx)
		if g.cfg.StopDelay > 0 && ctx.Err() != nil {
			timer := time.NewTimer(g.cfg.StopDelay) // the listeners stop after it
			<-timer.C
		}
		return err
	})
	g.log.Info("started", "service", name, "listen", g.listeners[0].Addr().String(), "listeners", len(g.listeners),
		"operations", g.ops.Addr().String(), "codec", g.cfg.Codec, "version", service.Version())
}

// registration puts the gateway into the catalog, where its identity, its health
// and its place can be seen. Nothing resolves it: it serves no mTLS.
func (g *gateway) registration() consul.Registration {
	return consul.Registration{
		ID: name + "-" + g.cfg.Node, Name: name, Address: g.cfg.Loopback.String(), Port: int(g.cfg.Listeners[0].Address.Port), Native: true,
		Meta: map[string]string{"version": service.Version()},
		Check: consul.Check{
			HTTP:     "http://" + g.cfg.Admin.String() + "/healthz",
			Interval: time.Second, Timeout: 3 * time.Second, DeregisterAfter: time.Minute,
		},
	}
}
