package service

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// checkTimeout bounds all checks of one health request together. It is under
// the time that Consul's own HTTP check waits.
const checkTimeout = 2 * time.Second

// Check says whether something works: nil, or why not, in words for a person.
type Check func(ctx context.Context) error

type namedCheck struct {
	name  string
	check Check
}

// Ops is the operations endpoint of a process: plain HTTP on the node's
// loopback, never on an address that other nodes reach.
//
//	GET /healthz   200 "ok", or 503 with one line per failed check
//	GET /readyz    the same, with the readiness checks on top
//	GET /metrics   Prometheus, from a registry of its own
//
// Handle adds more. Add checks and handlers before Run. Whoever asks for another
// name than one of the endpoint's gets 421: see ListenOps.
type Ops struct {
	listener net.Listener
	hosts    hosts
	mux      *http.ServeMux
	registry *prometheus.Registry
	logger   *slog.Logger

	mu     sync.Mutex // guards the checks
	health []namedCheck
	ready  []namedCheck
}

// ListenOps binds the endpoint at address ("127.0.0.1:8001"). It answers under the
// address' own host, any IP address, localhost and the further names, so that no
// site can have its pages read the endpoint under a name of its own.
func ListenOps(address string, logger *slog.Logger, names ...string) (*Ops, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for operations: %w", err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	o := &Ops{listener: listener, hosts: newHosts(address, names), mux: http.NewServeMux(), registry: registry, logger: logger}
	o.mux.HandleFunc("GET /healthz", o.serveHealth)
	o.mux.HandleFunc("GET /readyz", o.serveReady)
	o.mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return o, nil
}

// Addr returns where the endpoint listens.
func (o *Ops) Addr() net.Addr { return o.listener.Addr() }

// Registry returns the registry behind /metrics.
func (o *Ops) Registry() *prometheus.Registry { return o.registry }

// Handle serves pattern (http.ServeMux syntax: "GET /mesh") with handler.
func (o *Ops) Handle(pattern string, handler http.Handler) { o.mux.Handle(pattern, handler) }

// Health adds a check to /healthz and /readyz. A service that fails it is taken
// out of the catalog, so it must judge this process alone and never what is
// behind it.
func (o *Ops) Health(name string, check Check) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.health = append(o.health, namedCheck{name, check})
}

// Ready adds a check to /readyz: can the process do its whole work now, with
// everything that is behind it?
func (o *Ops) Ready(name string, check Check) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ready = append(o.ready, namedCheck{name, check})
}

// Run serves until ctx ends.
func (o *Ops) Run(ctx context.Context) error {
	server := &http.Server{
		Handler:           o.hosts.guard(o.mux),
		ReadHeaderTimeout: 2 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
	if o.logger != nil {
		server.ErrorLog = slog.NewLogLogger(o.logger.Handler(), slog.LevelWarn)
	}
	return Serve(ctx, server, o.listener, 500*time.Millisecond)
}

func (o *Ops) serveHealth(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	checks := o.health
	o.mu.Unlock()
	o.answer(w, r, checks)
}

func (o *Ops) serveReady(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	checks := append(append([]namedCheck(nil), o.health...), o.ready...)
	o.mu.Unlock()
	o.answer(w, r, checks)
}

func (o *Ops) answer(w http.ResponseWriter, r *http.Request, checks []namedCheck) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	var failures strings.Builder
	for _, c := range checks {
		if err := c.check(ctx); err != nil {
			fmt.Fprintf(&failures, "%s: %v\n", c.name, err)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if failures.Len() > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(failures.String()))
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}
