// Command web is the blog behind the mesh: a Connect-native HTTP service whose
// database is reached through local listeners that lead over mTLS.
//
// See docs/web.md for its operation.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"sluice/consul"
	"sluice/internal/secret"
	"sluice/internal/service"
	"sluice/mesh"
	"sluice/web/blog"
	"sluice/web/settings"
	"sluice/web/site"
	"sluice/web/trace"
)

const (
	name      = "web"
	primary   = "mongo-primary"
	secondary = "mongo-secondary"

	port          = 8000
	opsPort       = 8001
	primaryPort   = 5501
	secondaryPort = 5502
	// primaryDoorPort is where a mongo-agent serves mongo-primary.
	primaryDoorPort = 27018

	// drain is how long requests in flight may go on after SIGTERM: what is left of the
	// order of a stop (service.DefaultGrace) once the registration is gone, which a
	// hanging agent delays. What would take longer is told so in time, see service.Serve.
	drain = 1500 * time.Millisecond
	// drainConnections is how long connections may outlive their requests.
	drainConnections = 300 * time.Millisecond
)

func main() { service.Main(run) }

type config struct {
	service.Common
	urlprefix     string
	pageTitle     string
	mongoUser     string
	mongoPassword string // file
	adminUser     string
	adminPassword string // file
}

func parse(args []string, stdout io.Writer) (config, error) {
	var cfg config
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	cfg.Bind(fs)
	fs.StringVar(&cfg.urlprefix, "urlprefix", "/web", "`path` that the gateway routes here, and that the blog lives under")
	fs.StringVar(&cfg.pageTitle, "page-title", "Blog", "`heading` of the page")
	fs.StringVar(&cfg.mongoUser, "mongo-user", "web", "`name` of the database user")
	fs.StringVar(&cfg.mongoPassword, "mongo-password-file", "", "`file` with the database user's password, readable by its owner only")
	fs.StringVar(&cfg.adminUser, "admin-user", "admin", "`name` of the blog's first administrator")
	fs.StringVar(&cfg.adminPassword, "admin-password-file", "", "`file` with the first administrator's password, readable by its owner only; without it none is made")
	if err := service.ParseFlags(fs, args, stdout); err != nil {
		return cfg, err
	}
	if cfg.mongoPassword == "" {
		return cfg, service.UsageError{Err: errors.New("-mongo-password-file is missing")}
	}
	if !strings.HasPrefix(cfg.urlprefix, "/") {
		return cfg, service.UsageError{Err: fmt.Errorf("-urlprefix %q does not start with /", cfg.urlprefix)}
	}
	return cfg, cfg.Validate()
}

// run is the whole process. What others rely on is added to the group first,
// because a stop goes in the reverse order.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	cfg, err := parse(args, stdout)
	if err != nil {
		return err
	}
	with, err := cfg.opening()
	if err != nil {
		return err
	}
	logger, level := cfg.logger(stderr)
	client, err := consul.Open(consul.Config{
		Address: cfg.ConsulAddress, TokenFile: cfg.TokenFile, Datacenter: cfg.Datacenter, BreakGlass: cfg.BreakGlass, Logger: logger,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	ops, err := service.ListenOps(cfg.ListenLoopback(opsPort), logger, cfg.AdminHosts...)
	if err != nil {
		return err
	}
	group := &service.Group{Logger: logger}
	group.Add("operations endpoint", ops.Run)
	if err := with.trace(ctx, group, getenv, cfg.Node); err != nil {
		return err
	}

	edge := newEdge(client, cfg.Common, logger)
	edge.add(group)
	listener, err := edge.listen(cfg.Listen(port), logger)
	if err != nil {
		return err
	}
	with.requests, with.waits = newRequestMetrics(), newWaitMetrics()
	with.settings, with.consul = cfg.follow(group, client, logger, level)
	pages, err := cfg.open(group, edge, with, logger)
	if err != nil {
		return err
	}

	var serving atomic.Bool
	ops.Health("identity", func(context.Context) error { return edge.identity.Ready() })
	ops.Health("listener", check(&serving))
	ops.Ready(primary, pages.Ready)
	with.show(ops, edge)

	group.Add("mesh listener", listener.Run)
	group.Add("requests", func(ctx context.Context) error {
		serving.Store(true)
		defer serving.Store(false)
		return service.Serve(ctx, server(pages, logger), listener, drain)
	})
	edge.publish(group, pages.Run, client.Registrar(), cfg.registration())
	logger.Info("started", "service", name, "instance", cfg.instance(), "listen", listener.Addr().String(), "operations", ops.Addr().String(), "version", service.Version())
	return group.Run(ctx)
}

// opening is what a database is opened with.
type opening struct {
	password string
	first    blog.Foundation
	settings *settings.Live
	consul   func() error
	requests requestMetrics
	waits    waitMetrics
	// tracer is nil where nobody asks for traces.
	tracer *trace.Tracer
}

// show lets the operations endpoint tell of the process.
func (with opening) show(ops *service.Ops, edge *edge) {
	ops.Handle("GET /mesh", edge.report().Handler())
	ops.Handle("GET /settings", with.settings.Handler())
	ops.Registry().MustRegister(edgeMetrics{edge}, with.requests, with.waits)
}

// opening reads the secrets.
func (cfg config) opening() (opening, error) {
	password, err := secret.Read(cfg.mongoPassword)
	if err != nil {
		return opening{}, err
	}
	first, err := cfg.foundation()
	return opening{password: password, first: first}, err
}

// open makes the ways to the database and the site that uses them.
func (cfg config) open(group *service.Group, edge *edge, with opening, logger *slog.Logger) (*site.Site, error) {
	toPrimary, err := edge.open(group, blog.Config{
		Service: primary, Address: cfg.ListenLoopback(primaryPort), User: cfg.mongoUser, Password: with.password,
		Waited: with.waits.of(primary), Commands: with.commands(primary),
	}, logger)
	if err != nil {
		return nil, err
	}
	toSecondary, err := edge.open(group, blog.Config{
		Service: secondary, Address: cfg.ListenLoopback(secondaryPort), User: cfg.mongoUser, Password: with.password, Secondary: true,
		Waited: with.waits.of(secondary), Commands: with.commands(secondary),
	}, logger)
	if err != nil {
		return nil, err
	}
	group.Add("foundation of the blog", func(ctx context.Context) error { return prepare(ctx, toPrimary.store, with.first, logger) })
	return site.New(site.Config{
		Base: cfg.urlprefix, Title: cfg.pageTitle, Node: cfg.Node, Datacenter: cfg.Datacenter, Instance: cfg.instance(),
		Credentials: edge.identity, Primary: toPrimary.database(), Secondary: toSecondary.database(), Library: toPrimary.store, Nearby: toSecondary.store, Settings: with.settings, Consul: with.consul, Served: with.requests.served, Begin: with.begin(), Logger: logger,
	})
}

// check is the health of a listener that may serve.
func check(serving *atomic.Bool) service.Check {
	return func(context.Context) error {
		if !serving.Load() {
			return errors.New("not serving")
		}
		return nil
	}
}

func server(handler http.Handler, logger *slog.Logger) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           handler,
		Protocols:         &protocols,
		ConnContext:       mesh.ConnContext,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       120 * time.Second, // over what the gateway keeps
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

func (cfg config) instance() string { return name + "-" + cfg.Node }

func (cfg config) registration() consul.Registration {
	return consul.Registration{
		ID: cfg.instance(), Name: name, Address: cfg.Address.String(), Port: port, Native: true,
		Tags: []string{"urlprefix-" + cfg.urlprefix},
		Meta: map[string]string{"version": service.Version()},
		Check: consul.Check{
			HTTP:     "http://" + cfg.ListenLoopback(opsPort) + "/healthz",
			Interval: time.Second, Timeout: 3 * time.Second, DeregisterAfter: time.Minute,
		},
	}
}
