package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice/consul"
	"sluice/internal/service"
	"sluice/mesh"
)

// upstreamCommand is the subcommand that serves what the proxies proxy.
const upstreamCommand = "upstream"

// bodySize is the size of every answer's body, in bytes.
const bodySize = 1024

// instanceHeader names the instance that answered.
const instanceHeader = "X-Instance"

// upstreamConfig says what one upstream process serves. A port of 0 is none.
type upstreamConfig struct {
	agent, service, instance, host string
	// mtls keeps connections, mtlsClose ends each after one answer; plain too.
	mtls, mtlsClose, plain, plainClose int
	// tags make the process register itself at mtls, as a service does; without
	// tags the caller does.
	tags []string
}

// args is what parseUpstream reads.
func (cfg upstreamConfig) args() []string {
	args := []string{upstreamCommand, "-agent", cfg.agent, "-service", cfg.service, "-instance", cfg.instance, "-host", cfg.host}
	for name, port := range map[string]int{"-mtls": cfg.mtls, "-mtls-close": cfg.mtlsClose, "-plain": cfg.plain, "-plain-close": cfg.plainClose} {
		args = append(args, name, strconv.Itoa(port))
	}
	return append(args, "-tags", strings.Join(cfg.tags, ","))
}

func parseUpstream(args []string, log io.Writer) (upstreamConfig, error) {
	var cfg upstreamConfig
	var tags string
	flags := flag.NewFlagSet("bench "+upstreamCommand, flag.ContinueOnError)
	flags.SetOutput(log)
	flags.StringVar(&cfg.agent, "agent", "", "`address` of the Consul agent")
	flags.StringVar(&cfg.service, "service", "", "`name` of the service")
	flags.StringVar(&cfg.instance, "instance", "", "`name` of the instance")
	flags.StringVar(&cfg.host, "host", "", "`IP` to listen on")
	flags.IntVar(&cfg.mtls, "mtls", 0, "`port` for Connect")
	flags.IntVar(&cfg.mtlsClose, "mtls-close", 0, "`port` for Connect that ends each connection after one answer")
	flags.IntVar(&cfg.plain, "plain", 0, "`port` without TLS")
	flags.IntVar(&cfg.plainClose, "plain-close", 0, "`port` without TLS that ends each connection after one answer")
	flags.StringVar(&tags, "tags", "", "`tags` to register with, with commas; none does not register")
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	cfg.tags = split(tags)
	if cfg.agent == "" || cfg.service == "" || cfg.instance == "" || cfg.host == "" {
		return cfg, errors.New("-agent, -service, -instance and -host are needed")
	}
	return cfg, nil
}

// upstream serves until ctx ends.
func upstream(ctx context.Context, args []string, _, log io.Writer) error {
	cfg, err := parseUpstream(args, log)
	if err != nil {
		return err
	}
	client, err := consul.Open(consul.Config{Address: cfg.agent, Datacenter: datacenter})
	if err != nil {
		return err
	}
	defer client.Close()
	group := &service.Group{Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	identity, policy := client.Identity(cfg.service), client.DestinationPolicy(cfg.service)
	group.Add("identity", identity.Run)
	group.Add("policy", policy.Run)
	listen := mesh.ListenConfig{
		Credentials: identity, Table: mesh.NewTable(time.Now), DrainTimeout: 300 * time.Millisecond,
		Authorizer: mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: cfg.service, Policy: policy, Fallback: client.Verdicts()}),
	}
	for _, port := range []struct {
		number      int
		keep, plain bool
	}{{cfg.mtls, true, false}, {cfg.mtlsClose, false, false}, {cfg.plain, true, true}, {cfg.plainClose, false, true}} {
		if port.number == 0 {
			continue
		}
		if err := cfg.serve(group, listen, port.number, port.keep, port.plain); err != nil {
			return err
		}
	}
	if len(cfg.tags) > 0 {
		registrar := client.Registrar()
		registrar.Set(cfg.registration())
		registrar.Pass(cfg.instance, "it runs")
		group.Add("registration", registrar.Run)
	}
	return group.Run(ctx)
}

// serve adds one listener to the group.
func (cfg upstreamConfig) serve(group *service.Group, listen mesh.ListenConfig, port int, keep, plain bool) error {
	address := net.JoinHostPort(cfg.host, strconv.Itoa(port))
	var listener net.Listener
	var err error
	if plain {
		listener, err = net.Listen("tcp", address)
	} else {
		var secured *mesh.Listener
		if secured, err = mesh.Listen(address, listen); err == nil {
			group.Add(fmt.Sprintf("mesh listener %d", port), secured.Run)
			listener = secured
		}
	}
	if err != nil {
		return err
	}
	server := &http.Server{Handler: cfg.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 10 * time.Minute}
	server.SetKeepAlivesEnabled(keep)
	group.Add(fmt.Sprintf("requests %d", port), func(ctx context.Context) error {
		return service.Serve(ctx, server, listener, 1500*time.Millisecond)
	})
	return nil
}

// handler answers every request with the same body.
func (cfg upstreamConfig) handler() http.Handler {
	body := []byte(strings.Repeat("0123456789abcde\n", bodySize/16))
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		header := w.Header()
		header.Set("Content-Type", "text/plain")
		header.Set("Content-Length", strconv.Itoa(len(body)))
		header.Set(instanceHeader, cfg.instance)
		_, _ = w.Write(body)
	})
}

func (cfg upstreamConfig) registration() consul.Registration {
	return consul.Registration{
		ID: cfg.instance, Name: cfg.service, Address: cfg.host, Port: cfg.mtls, Tags: cfg.tags, Native: true,
		Check: consul.Check{TTL: 10 * time.Second},
	}
}
