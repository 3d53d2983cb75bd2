// Command gateway is the way into the mesh: plain HTTP in, on the node's
// loopback; over mTLS out, to the Connect services whose tags declare routes.
//
// See docs/gateway.md for its operation.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"sluice/consul"
	"sluice/gateway/proxy"
	"sluice/gateway/route"
	"sluice/internal/service"
	"sluice/mesh"
)

const (
	name      = "gateway"
	port      = 9999
	adminPort = 9998
	// drain is how long requests in flight may go on after SIGTERM.
	drain = 1500 * time.Millisecond
)

func main() { service.Main(run) }

type config struct {
	service.Common
	prefix    string
	port      int
	adminPort int
}

func parse(args []string, stdout io.Writer) (config, error) {
	var cfg config
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	cfg.Bind(fs)
	fs.StringVar(&cfg.prefix, "prefix", route.DefaultPrefix, "`prefix` of the tags that are routes")
	fs.IntVar(&cfg.port, "port", port, "plain HTTP `port` on the node's loopback")
	fs.IntVar(&cfg.adminPort, "admin-port", adminPort, "operations `port` on the node's loopback")
	if err := service.ParseFlags(fs, args, stdout); err != nil {
		return cfg, err
	}
	if cfg.prefix == "" {
		return cfg, service.UsageError{Err: fmt.Errorf("-prefix is empty: every tag would be a route")}
	}
	return cfg, cfg.Validate()
}

// run is the whole process. What others rely on is added to the group first,
// because a stop goes in the reverse order.
func run(ctx context.Context, args []string, _ func(string) string, stdout, stderr io.Writer) error {
	cfg, err := parse(args, stdout)
	if err != nil {
		return err
	}
	logger := cfg.Logger(stderr)
	client, err := consul.Open(consul.Config{
		Address: cfg.ConsulAddress, TokenFile: cfg.TokenFile, Datacenter: cfg.Datacenter, Logger: logger,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	ops, err := service.ListenOps(cfg.ListenLoopback(cfg.adminPort), logger)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", cfg.ListenLoopback(cfg.port))
	if err != nil {
		return fmt.Errorf("listen for requests: %w", err)
	}

	identity := client.Identity(name)
	policy := client.SourcePolicy(name)
	catalog := client.ResolverAll(cfg.prefix)
	table := mesh.NewTable(time.Now)
	dialer := mesh.NewDialer(mesh.DialerConfig{Credentials: identity, Resolver: catalog, Policy: policy, Table: table, Logger: logger})
	gateway := proxy.New(proxy.Config{
		Source: name, Prefix: cfg.prefix, Catalog: catalog, Dialer: dialer, Policy: policy,
		Logger: logger, Registerer: ops.Registry(),
	})
	registrar := client.Registrar()
	registrar.Set(cfg.registration())

	ops.Health("identity", func(context.Context) error { return identity.Ready() })
	ops.Ready("routes", func(context.Context) error { return healthyRoute(gateway) })
	ops.Handle("GET /mesh", mesh.ReportConfig{
		Credentials: []mesh.CredentialSource{identity},
		Policies:    []mesh.PolicyRef{{Service: name, Side: mesh.SideSource, Source: policy}},
		Table:       table,
	}.Handler())
	ops.Handle("GET /routes", gateway.RoutesHandler())
	ops.Handle("GET /{$}", gateway.IndexHandler(cfg.Node, cfg.Datacenter))

	group := service.Group{Logger: logger}
	group.Add("operations endpoint", ops.Run)
	group.Add("identity", identity.Run)
	group.Add("intentions", policy.Run)
	group.Add("catalog", catalog.Run)
	group.Add("mesh dialer", dialer.Run)
	group.Add("routes", gateway.Run)
	group.Add("requests", func(ctx context.Context) error {
		return service.Serve(ctx, server(gateway, logger), listener, drain)
	})
	group.Add("registration", registrar.Run)
	logger.Info("started", "service", name, "listen", listener.Addr().String(), "operations", ops.Addr().String(), "version", service.Version())
	return group.Run(ctx)
}

func server(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       90 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

// registration puts the gateway into the catalog, where its identity, its health
// and its place can be seen. Nothing resolves it: it serves no mTLS.
func (cfg config) registration() consul.Registration {
	return consul.Registration{
		ID: name + "-" + cfg.Node, Name: name, Address: cfg.Loopback.String(), Port: cfg.port, Native: true,
		Meta: map[string]string{"version": service.Version()},
		Check: consul.Check{
			HTTP:     "http://" + cfg.ListenLoopback(cfg.adminPort) + "/healthz",
			Interval: time.Second, Timeout: 3 * time.Second, DeregisterAfter: time.Minute,
		},
	}
}

func healthyRoute(gateway *proxy.Proxy) error {
	for _, r := range gateway.Table().Routes() {
		if len(r.Instances) > 0 {
			return nil
		}
	}
	return fmt.Errorf("no route has a healthy instance")
}
