// Package proxy is the gateway's data path: a request comes in over plain HTTP,
// the routing table names the instances that may answer it, and it leaves over
// the mesh to one of them.
//
// One goroutine (Run) follows the catalog and the intentions and publishes each
// routing table as an immutable snapshot behind an atomic pointer; a request
// reads one snapshot once. Policy is not health: an instance that may not be
// called is never marked as failed, so that an allow works at once.
package proxy

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway/route"
	"sluice/mesh"
)

const (
	// keepGone is how long a route without a healthy instance answers 503
	// before it is forgotten and answers 404.
	keepGone = 10 * time.Minute
	// rebuildEvery bounds how late a forgotten route is noticed.
	rebuildEvery = time.Minute
	// responseHeaderTimeout is how long an instance may think.
	responseHeaderTimeout = 30 * time.Second
)

// Catalog names the healthy instances of every service that declares routes.
type Catalog interface {
	// Services returns the newest snapshot; the caller does not change it.
	Services() map[string][]mesh.Instance
	// Changed returns a channel that is closed when Services starts to return
	// something else than it does now.
	Changed() <-chan struct{}
}

// Dialer makes mesh connections. *mesh.Dialer is one.
type Dialer interface {
	DialInstance(ctx context.Context, instance mesh.Instance) (*mesh.Conn, error)
}

// Config is what a Proxy works with.
type Config struct {
	// Source is the service that the proxy dials as; "" is "gateway".
	Source string
	// Prefix marks route tags; "" is route.DefaultPrefix.
	Prefix string
	// Catalog and Dialer are required.
	Catalog Catalog
	Dialer  Dialer
	// Policy supplies the intentions of Source as source; nil leaves every
	// verdict to the destination.
	Policy mesh.PolicySource
	// Logger gets one line per request; nil is silent.
	Logger *slog.Logger
	// Registerer receives the metrics; nil keeps them to the proxy.
	Registerer prometheus.Registerer
	// ResponseHeaderTimeout is how long an instance may take to start its
	// answer; 0 is 30 s.
	ResponseHeaderTimeout time.Duration
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// Proxy is an http.Handler that carries requests over the mesh. It serves
// nothing until Run has read the catalog.
type Proxy struct {
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	reverse *httputil.ReverseProxy
	state   atomic.Pointer[snapshot]
}

// snapshot is one routing table with the pools of its instances.
type snapshot struct {
	table   *route.Table
	targets map[targetKey]*target
}

// New returns a Proxy for cfg.
func New(cfg Config) *Proxy {
	cfg.Source = cmp.Or(cfg.Source, "gateway")
	cfg.Prefix = cmp.Or(cfg.Prefix, route.DefaultPrefix)
	cfg.ResponseHeaderTimeout = cmp.Or(cfg.ResponseHeaderTimeout, responseHeaderTimeout)
	p := &Proxy{cfg: cfg, log: cfg.Logger, now: cfg.Now, metrics: newMetrics(cfg.Registerer)}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.now == nil {
		p.now = time.Now
	}
	p.state.Store(&snapshot{table: route.New(route.Config{}), targets: map[targetKey]*target{}})
	p.reverse = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      roundTripper{p},
		FlushInterval:  -1, // a stream's bytes go out as they come in
		ModifyResponse: func(r *http.Response) error { return stampResponse(r) },
		ErrorHandler:   p.serveError,
		ErrorLog:       slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	return p
}

// Table returns the routing table in use.
func (p *Proxy) Table() *route.Table { return p.state.Load().table }

// exchange is one request on its way through the proxy.
type exchange struct {
	id       string
	targets  []*target
	services []string
	client   string // IP
	port     string
	// What happened, for the log.
	answered *target
	attempts int
	err      error
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// ServeHTTP routes the request and carries it, or answers with a page that says
// why not.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := p.now()
	x := &exchange{id: rand.Text(), client: hostOf(r.RemoteAddr), port: localPort(r)}
	recorder := &statusRecorder{ResponseWriter: w}
	// Deferred, so that a response that was cut half-way is counted too.
	defer func() { p.account(x, r, recorder.status, p.now().Sub(start)) }()

	recorder.Header().Set("X-Request-Id", x.id)
	if r.Method == http.MethodConnect || r.URL.Path == "" || r.URL.Path[0] != '/' || route.HasDotSegment(r.URL.Path) {
		writePage(recorder, r, pageBadRequest(r))
		return
	}
	state := p.state.Load()
	matched, ok := state.table.Lookup(r.Host, r.URL.Path)
	if !ok {
		writePage(recorder, r, pageNoRoute(r, p.cfg.Prefix))
		return
	}
	x.services = matched.Services
	for _, instance := range matched.Instances {
		x.targets = append(x.targets, state.targets[keyOf(instance)])
	}
	p.reverse.ServeHTTP(recorder, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
}

// rewrite sets what the instance learns about the client. ReverseProxy has
// already dropped hop-by-hop headers; everything that a client may have sent in
// the place of ours goes too.
func rewrite(pr *httputil.ProxyRequest) {
	x := exchangeOf(pr.In.Context())
	out := pr.Out
	out.URL.Scheme = "http"
	out.URL.Host = "mesh"                 // the transport of the picked instance dials
	out.URL.RawQuery = pr.In.URL.RawQuery // the gateway gives it no meaning
	out.Host = pr.In.Host
	for _, name := range []string{
		"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port",
		"X-Forwarded-Prefix", "X-Forwarded-Server", "X-Real-Ip", "X-Request-Id",
	} {
		out.Header.Del(name)
	}
	out.Header.Set("X-Forwarded-For", x.client)
	out.Header.Set("X-Forwarded-Host", pr.In.Host)
	out.Header.Set("X-Forwarded-Proto", "http")
	out.Header.Set("X-Forwarded-Port", x.port)
	out.Header.Set("X-Request-Id", x.id)
}

// stampResponse makes the request's ID the only one in the response.
func stampResponse(r *http.Response) error {
	r.Header.Del("X-Request-Id") // ServeHTTP has set ours
	return nil
}

func (p *Proxy) serveError(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	x.err = err
	if r.Context().Err() != nil {
		return // the client has gone; nobody reads an answer
	}
	writePage(w, r, p.pageFor(x, err))
}

// account logs and counts one request.
func (p *Proxy) account(x *exchange, r *http.Request, status int, took time.Duration) {
	service, instance := strings.Join(x.services, "+"), ""
	if x.answered != nil {
		service, instance = x.answered.service(), x.answered.instance.ServiceID
	}
	p.metrics.request(service, status, took)
	args := []any{
		"method", r.Method, "host", r.Host, "path", r.URL.Path, "status", status, "took_ms", float64(took.Microseconds()) / 1000,
		"client", x.client, "request_id", x.id, "service", service, "instance", instance, "attempts", x.attempts,
	}
	if x.err != nil {
		p.log.Warn("request failed", append(args, "err", x.err)...)
		return
	}
	p.log.Info("request", args...)
}

// statusRecorder remembers the status of a response. Unwrap keeps streaming and
// upgrades possible.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (w *statusRecorder) WriteHeader(status int) {
	if w.status == 0 || w.status < 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusRecorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

func (w *statusRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

func localPort(r *http.Request) string {
	address, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return "80"
	}
	_, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return "80"
	}
	return port
}
