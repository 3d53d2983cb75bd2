// Package proxy is the gateway's data path: a request comes in, the routing table
// names the instances that may answer it, and it leaves over the mesh to one of
// them.
//
// One goroutine (Run) follows the catalog, the overrides and the intentions and
// publishes each routing table, with how its routes are served, as an immutable
// snapshot behind an atomic pointer; a request reads one snapshot once. Policy is
// not health: an instance that may not be called is never marked as failed, and
// nobody else is asked in its stead.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync/atomic"
	"time"

	"sluice/gateway/route"
	"sluice/internal/service/mask"
)

// Proxy carries requests over the mesh. It is an http.Handler, and serves
// nothing until Run has read the catalog.
type Proxy struct {
	cfg Config
	log *slog.Logger
	now func() time.Time
	// ownClock says that now is not the system's clock.
	ownClock   bool
	metrics    *metrics
	reverse    *httputil.ReverseProxy
	state      atomic.Pointer[snapshot]
	recent     *history
	failed     *history
	ids        *ids
	complaints *complaints
	dials      *dials
	mask       mask.Mask
	timeline   *timeline
	// rested counts how often a connection became idle.
	rested atomic.Int64
}

// New returns a Proxy for cfg.
func New(cfg Config) *Proxy {
	ownClock := cfg.Now != nil
	cfg = cfg.withDefaults()
	p := &Proxy{cfg: cfg, ownClock: ownClock, log: cfg.Logger, now: cfg.Now, metrics: newMetrics(cfg.MetricsPrefix, cfg.Registerer), mask: mask.New(cfg.Secrets), ids: newIDs(), complaints: newComplaints(), dials: newDials(), timeline: newTimeline(time.Now())}
	p.recent, p.failed = newHistory(historySize, p.mask), newHistory(failedSize, p.mask)
	p.state.Store(&snapshot{table: route.New(route.Config{}), replaced: make(chan struct{})})
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(newInstanceMetrics(p))
	}
	p.reverse = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      roundTripper{p},
		FlushInterval:  -1, // a stream's bytes go out as they come in
		ModifyResponse: p.stampResponse,
		ErrorHandler:   p.serveError,
		ErrorLog:       slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
		BufferPool:     &buffers{},
	}
	return p
}

// system is the system's time when now has said t: deadlines of connections are in that,
// whatever a test's clock says, and reading a clock twice is dear.
func (p *Proxy) system(t time.Time) time.Time {
	if p.ownClock {
		return time.Now()
	}
	return t
}

// Table returns the routing table in use.
func (p *Proxy) Table() *route.Table { return p.state.Load().table }

// ours are the headers by which a gateway tells an instance who asks. What a
// client sends in their place goes.
func ours() []string {
	return []string{
		"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port",
		"X-Forwarded-Prefix", "X-Forwarded-Server", "X-Real-Ip", "X-Request-Id",
	}
}

// rewrite sets what the instance learns about the client. ReverseProxy has
// already dropped hop-by-hop headers.
func rewrite(pr *httputil.ProxyRequest) {
	x := exchangeOf(pr.In.Context())
	out := pr.Out
	out.URL.RawQuery = pr.In.URL.RawQuery // the gateway gives it no meaning
	out.Host = pr.In.Host
	for _, name := range ours() {
		out.Header.Del(name)
	}
	for name := range out.Header {
		if strings.Contains(name, "_") && notForwarded([]byte(name)) {
			delete(out.Header, name)
		}
	}
	out.Header.Set("X-Forwarded-For", x.forwardedFor())
	out.Header.Set("X-Forwarded-Host", x.forwardedHost())
	out.Header.Set("X-Forwarded-Proto", x.proto())
	out.Header.Set("X-Forwarded-Port", x.forwardedPort(localPort(pr.In)))
	if strip := x.plan.options.Strip; strip != "" {
		out.Header.Set("X-Forwarded-Prefix", strip)
	}
	out.Header.Set("X-Request-Id", x.id)
	if len(x.plan.schemes) > 0 {
		out.Header.Del("Authorization") // it was the gateway's to check
	}
}

// forwardedFor names the client: an address that could be verified, or nothing.
func (x *exchange) forwardedFor() string {
	switch {
	case x.clientText != "":
	case x.client.IsValid():
		x.clientText = x.client.String()
	default:
		x.clientText = "unknown"
	}
	return x.clientText
}

// stampResponse sets what the client learns about the instance.
func (p *Proxy) stampResponse(r *http.Response) error {
	x := exchangeOf(r.Request.Context())
	r.Header.Del("X-Request-Id") // ServeHTTP has set ours
	x.bare = r.ContentLength == 0 && len(r.Trailer) == 0
	if x.plan.cookie != "" && x.answered.token != x.wants {
		r.Header.Add("Set-Cookie", stickyCookie(x).String())
	}
	if p.cfg.ServedBy {
		r.Header.Set("X-Served-By", x.answered.target.instance.ServiceID)
	}
	if p.cfg.ServedDC {
		r.Header.Set("X-Served-Dc", p.datacenterOf(&x.answered.target.instance))
	}
	return nil
}

func (p *Proxy) serveError(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	switch cause := context.Cause(r.Context()); {
	case errors.Is(cause, errTimeout) && !isTimeout(err):
		err = fmt.Errorf("%w: %w", errTimeout, err)
	case cause != nil && !isTimeout(err):
		x.err = err
		return // the client has gone; nobody reads an answer
	}
	x.err = err
	if clientsFault(err) {
		p.writeStd(pageForBody(err), w, r)
		return
	}
	p.writeStd(p.pageFor(x, err), w, r)
}
