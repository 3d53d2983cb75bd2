package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway/accesslog"
	"sluice/gateway/acl"
	"sluice/gateway/auth"
	"sluice/gateway/balance"
	"sluice/gateway/budget"
	"sluice/gateway/errorpages"
	"sluice/gateway/route"
	"sluice/gateway/tag"
	"sluice/gateway/tcp"
	"sluice/mesh"
)

const (
	// defaultTimeout is how long a request may wait for the head of its answer.
	defaultTimeout = 30 * time.Second
	// defaultRetries is how many further attempts a request may get.
	defaultRetries = 2
	// maxRetries bounds what a tag may ask for.
	maxRetries = 8
	// defaultIdleConns bounds the idle connections that are kept to one instance, and
	// defaultKeepAlive their time, which must be less than what instances keep theirs
	// for.
	defaultIdleConns = 256
	defaultKeepAlive = 60 * time.Second
	defaultDial      = 5 * time.Second
)

// Catalog names the healthy instances of every service that declares routes.
type Catalog interface {
	// Services returns the newest snapshot; the caller does not change it.
	Services() map[string][]mesh.Instance
	// Changed returns a channel that is closed when Services starts to return
	// something else than it does now.
	Changed() <-chan struct{}
}

// IndexedCatalog is a Catalog that knows the Consul index at which Services started to
// say of a service what it says. The timeline has it.
type IndexedCatalog interface {
	Index(service string) uint64
}

// IndexedOverrides are Overrides that know the Consul index of Rules.
type IndexedOverrides interface {
	Index() uint64
}

// TracedCredentials is a CredentialSource that tells when it has others than now, and
// where they are from. Without it they are looked at every second.
type TracedCredentials interface {
	Changed() <-chan struct{}
	Provenance() mesh.Provenance
}

// Dialer makes mesh connections. *mesh.Dialer is one.
type Dialer interface {
	DialInstance(ctx context.Context, instance mesh.Instance) (*mesh.Conn, error)
}

// forgetter is what a Dialer may also be: it drops what it has counted of a service
// that has no instance any more.
type forgetter interface{ Forget(service string) }

// Overrides are the operator's changes to what the catalog declares.
type Overrides interface {
	// Rules returns the newest; nil is none. They are compared by ==.
	Rules() route.Rules
	// Changed returns a channel that is closed when Rules starts to return
	// something else than it does now.
	Changed() <-chan struct{}
}

// ErrorPages are pages in the operator's own form. *errorpages.Pages is one.
type ErrorPages interface {
	// Render returns false where the proxy's own page is to be shown.
	Render(errorpages.Page) ([]byte, bool)
}

// Config is what a Proxy works with.
type Config struct {
	// Source is the service that the proxy dials as; "" is "gateway".
	Source string
	// Match is how paths are compared where a tag does not say.
	Match tag.Match
	// Prefix marks route tags; "" is route.DefaultPrefix.
	Prefix string
	// Datacenter is the gateway's own: what $DC stands for, and the first in which
	// instances are looked for.
	Datacenter string
	// Datacenters are the others, in order of preference.
	Datacenters []string
	// Order is in which datacenters instances are looked for where a tag does not say;
	// empty is Datacenter and then Datacenters.
	Order []string
	// Catalog and Dialer are required.
	Catalog Catalog
	Dialer  Dialer
	// Overrides may be nil.
	Overrides Overrides
	// Registry is told of the services of register=; nil registers none.
	Registry Registry
	// Credentials, if given, are watched: after a rotation, connections that were
	// made with the old leaf serve nobody new. Policy and they are looked at on each
	// change of Policy and every second.
	Credentials mesh.CredentialSource
	// Policy supplies the intentions of Source as source; nil leaves every
	// verdict to the destination.
	Policy mesh.PolicySource
	// AllowPlain lets tags and overrides name instances that are called without
	// Connect: nobody proves who they are, and no intention is asked.
	AllowPlain bool
	// Trusted are the proxies whose X-Forwarded-For, -Proto, -Port and -Host are believed.
	Trusted acl.Networks
	// Auth checks credentials for routes with auth=; nil lets nobody in there.
	Auth *auth.Guard
	// Strategy is how instances are picked where the tag does not say; "" is p2c.
	Strategy tag.Strategy
	// BodyIdle is how long the body of a request may pause, and MinBodyRate the bytes
	// per second that it comes with at least, where net/http reads it; 0 is no bound.
	// Calls of gRPC have neither. See OwnConfig for the gateway's own codec.
	BodyIdle    time.Duration
	MinBodyRate int64
	// MaxFields bounds the header fields of a request where net/http reads it; 0 is no
	// bound.
	MaxFields int
	// Timeout bounds a request from its head to the head of its answer, all
	// attempts together; 0 is 30 s.
	Timeout time.Duration
	// Retries is how many further attempts a request may get; 0 is 2, negative none.
	Retries int
	// Budget bounds retries and hedges of each route.
	Budget budget.Config
	// Ejection says when a failing instance is left out.
	Ejection balance.Ejection
	// SlowStart is how long a new instance's share grows; 0 is 10 s, negative none.
	SlowStart time.Duration
	// MaxConn bounds the requests in flight to one instance; 0 is no bound.
	MaxConn int
	// Absent returns the instances of a service that are unhealthy, for Explain and the
	// timeline; may be nil.
	Absent func(ctx context.Context, service string) ([]Absent, error)
	// ServedBy and ServedDC add X-Served-By and X-Served-Dc to answers.
	ServedBy, ServedDC bool
	// ExplainErrors names services, instances and intentions on the pages of errors.
	// Without it they say what happened and the request's ID, by which the log and
	// the admin page have the rest.
	ExplainErrors bool
	// ErrorPages make the pages of errors that browsers get; nil leaves all of them to
	// the proxy.
	ErrorPages ErrorPages
	// NoRouteStatus is the status where no route takes a request; 0 is 404.
	NoRouteStatus int
	// HealthPath, if not "", is answered by the gateway itself, whoever asks: with 200, or
	// 503 while Healthy returns an error. Healthy may be nil.
	HealthPath string
	Healthy    func() error
	// IdleConns is how many idle connections are kept to one instance, 256, and
	// KeepAlive for how long, 60 s; negative keeps none.
	IdleConns int
	KeepAlive time.Duration
	// Dial bounds a connection to a plain instance; 0 is 5 s. Those over the mesh
	// have the bound of Dialer.
	Dial time.Duration
	// MetricsPrefix begins the name of every metric; "" is sluice_gateway.
	MetricsPrefix string
	// Streams are the TCP connections that RouteStream has routed; nil cuts none.
	Streams *tcp.Table
	// Logger gets a line for requests that fail: the first of a route and reason at
	// once, then one in 10 s with the number of those left out, which are there at the
	// level of debugging; nil is silent.
	Logger *slog.Logger
	// Secrets are the names of parameters whose values are shown nowhere: neither in
	// the log and in spans, nor on pages. As accesslog.Config.Secrets.
	Secrets []string
	// Access gets an entry per request; may be nil.
	Access *accesslog.Log
	// Tracer is told of requests; may be nil.
	Tracer Tracer
	// Registerer receives the metrics; nil keeps them to the proxy.
	Registerer prometheus.Registerer
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

func (cfg Config) withDefaults() Config {
	cfg.Source = cmp.Or(cfg.Source, "gateway")
	cfg.Prefix = cmp.Or(cfg.Prefix, route.DefaultPrefix)
	cfg.Timeout = cmp.Or(cfg.Timeout, defaultTimeout)
	cfg.Retries = min(max(cmp.Or(cfg.Retries, defaultRetries), 0), maxRetries)
	cfg.Strategy = cmp.Or(cfg.Strategy, tag.P2C)
	cfg.NoRouteStatus = cmp.Or(cfg.NoRouteStatus, http.StatusNotFound)
	cfg.IdleConns = cmp.Or(cfg.IdleConns, defaultIdleConns)
	cfg.KeepAlive = cmp.Or(cfg.KeepAlive, defaultKeepAlive)
	cfg.Dial = cmp.Or(cfg.Dial, defaultDial)
	cfg.MetricsPrefix = cmp.Or(cfg.MetricsPrefix, "sluice_gateway")
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return cfg
}

// supported refuses what the proxy would not do for a route.
func (cfg Config) supported(r tag.Route) error {
	o := &r.Options
	switch {
	case o.Plain && !cfg.AllowPlain:
		return errors.New("it is called without Connect, which -allow-plain would have to permit")
	case o.Auth != "" && cfg.Auth == nil:
		return fmt.Errorf("auth: no scheme %q is configured", o.Auth)
	case o.Retries > maxRetries:
		return fmt.Errorf("retry: %d, want at most %d", o.Retries, maxRetries)
	}
	return nil
}

// admit refuses an instance outside the mesh whose tag does not ask for that, since
// nobody there proves who it is, and one in the mesh whose tag would give up that
// it does.
func admit(instance *mesh.Instance, o *tag.Options) error {
	switch {
	case o.RedirectCode != 0:
		return nil
	case instance.ID.IsZero() && !o.Plain:
		return errors.New("the instance is outside the mesh (neither Connect-native nor behind a sidecar), and the tag does not say plain=true")
	case !instance.ID.IsZero() && o.Plain:
		return errors.New("the instance is in the mesh, and the tag asks to call it without (plain=true, proto=https or proto=grpcs): without that it is called over Connect")
	}
	return nil
}

// Check returns why the proxy cannot serve what a tag or an override asks for, or
// nil.
func (cfg Config) Check(r tag.Route) error { return cfg.withDefaults().supported(r) }
