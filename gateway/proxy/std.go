package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/accesslog"
	"sluice/gateway/retry"
)

// copyBuffer is the size of the pieces in which net/http copies bodies.
const copyBuffer = 32 << 10

// buffers is a pool for httputil.ReverseProxy, which allocates a buffer per
// answer without one.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if buffer, ok := b.pool.Get().(*[]byte); ok {
		return *buffer
	}
	return make([]byte, copyBuffer)
}

func (b *buffers) Put(buffer []byte) { b.pool.Put(&buffer) }

// errNoStatus is an answer that net/http takes, and cannot send on.
var errNoStatus = errors.New("there is no such status")

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// ServeHTTP routes the request and carries it, or answers with a page that says
// why not.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := new(exchange)
	x.begin(p.newID(), p.now())
	x.ask = p.askOf(r)
	p.span(x, r.Header.Get("Traceparent"))
	recorder := &statusRecorder{ResponseWriter: w, x: x, panicked: p.Panicked}
	// Deferred, so that a response that was cut half-way is counted too.
	defer func() {
		x.drained(r.Context())
		p.account(x, stdHead{r}, ending{recorder.status, counted(r.Body), recorder.written, p.now()})
	}()
	defer p.rescue(recorder, r)
	body := countBody(r.Body, http.NewResponseController(w))
	r.Body = body
	if c, ok := body.(*countedBody); ok {
		defer c.finish()
	}

	recorder.Header().Set("X-Request-Id", x.id)
	if reason := misread(r); reason != "" {
		p.writeStd(x.remark(accesslog.ClientMalformed, reason, pageMisread(reason)), recorder, r)
		return
	}
	if p.tooManyFields(r) {
		p.writeStd(x.remark(accesslog.ClientMalformed, "too many header fields", pageTooManyFields()), recorder, r)
		return
	}
	if answer := p.admit(r.Context(), x, single(r.Header["Authorization"])); answer != nil {
		p.writeStd(answer, recorder, r)
		return
	}
	if !r.ProtoAtLeast(1, 1) || offersHTTP2(r.Header["Upgrade"]) {
		r.Header.Del("Upgrade")
	}
	x.stick(r.Header.Get, func(name string) string { return cookieOf(r, name) })
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), exchangeKey{}, x))
	defer cancel(nil)
	clock := startClock(x.patience(isGRPC(r.Header)), func() { cancel(errTimeout) })
	defer clock.stop()
	x.answering = clock.stop
	if c, ok := body.(*countedBody); ok {
		c.moved, x.stopUpload = clock.restart, c.stop
		if !isGRPC(r.Header) {
			c.bound(p.cfg.BodyIdle, p.cfg.MinBodyRate)
		}
	}
	p.reverse.ServeHTTP(recorder, r.WithContext(ctx))
	if recorder.status == 0 {
		panic(http.ErrAbortHandler) // net/http would answer with 200
	}
}

// offersHTTP2 reports whether a client would go on with another version of HTTP. An
// instance that took it would be asked things that no route and no list has seen.
func offersHTTP2(upgrades []string) bool {
	for protocol := range strings.SplitSeq(strings.ToLower(strings.Join(upgrades, ",")), ",") {
		protocol = strings.TrimSpace(protocol)
		if strings.HasPrefix(protocol, "h2") || strings.HasPrefix(protocol, "h3") || strings.HasPrefix(protocol, "http") {
			return true
		}
	}
	return false
}

func (p *Proxy) askOf(r *http.Request) ask {
	a := ask{
		method: r.Method, host: r.Host, raw: rawPath(r), path: r.URL.Path, query: r.URL.RawQuery,
		hasQuery: r.URL.RawQuery != "" || r.URL.ForceQuery, tls: r.TLS != nil,
		hasBody: r.Body != nil && r.Body != http.NoBody,
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		a.peer, a.port = peer.Addr().Unmap(), peer.Port()
	}
	a.client = p.clientOf(a.peer, r.Header["X-Forwarded-For"])
	if p.cfg.Trusted.Contains(a.peer) {
		a.hear(func(name string) string { return single(r.Header[name]) })
	}
	return a
}

// rawPath is the path as it came.
func rawPath(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		raw, _, _ := strings.Cut(r.RequestURI, "?")
		return raw
	}
	return r.URL.EscapedPath()
}

func single(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return ""
}

func cookieOf(r *http.Request, name string) string {
	if cookie, err := r.Cookie(name); err == nil {
		return cookie.Value
	}
	return ""
}

// roundTripper carries one request of net/http to one of its instances.
type roundTripper struct{ p *Proxy }

// RoundTrip implements http.RoundTripper.
func (rt roundTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	x := exchangeOf(request.Context())
	c := &stdCarrier{p: rt.p, x: x, request: request, body: holdBody(request, x.stopUpload, rt.p.Panicked)}
	done, err := carry[*http.Response](request.Context(), rt.p, x, c)
	if err != nil {
		// net/http ends the request's context with any failure to read from the client.
		if failed := c.body.failed.Load(); failed != nil {
			err = *failed
		}
		return nil, err
	}
	response := done.answer
	if !x.answering() {
		_ = response.Body.Close()
		done.end()
		return nil, errTimeout
	}
	response.Body = endWith(response.Body, done.end)
	x.held = response.Body
	switch body := response.Body.(type) {
	case *trackedBody:
		body.broken = func(err error) { x.broke = rt.p.blame(done.member, err) }
	case *trackedUpgrade:
		body.panicked = rt.p.Panicked
	}
	return response, nil
}

// stdCarrier sends a request through net/http.
type stdCarrier struct {
	p       *Proxy
	x       *exchange
	request *http.Request
	body    *heldBody
}

func (c *stdCarrier) spent() bool { return !c.body.empty && c.body.used.Load() }

func (c *stdCarrier) drop(response *http.Response) { _ = response.Body.Close() }

// bound implements carrier: a clock ends the context.
func (c *stdCarrier) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return ctx, func() {}
}

// callOver reports whether the client's own deadline for a call has passed.
func (c *stdCarrier) callOver() bool {
	if !isGRPC(c.request.Header) {
		return false
	}
	limit := callTime(single(c.request.Header["Grpc-Timeout"]))
	return limit > 0 && c.p.now().Sub(c.x.started) >= limit
}

func (c *stdCarrier) send(ctx context.Context, m *member, _ time.Time) (result sent[*http.Response]) {
	traceparent, end := c.p.try(c.x, m)
	defer func() { end(result.status, result.err) }()
	var answered atomic.Bool
	dialing := &pending{}
	defer func() { result.pending = dialing }()
	var shown atomic.Pointer[net.Conn]
	defer func() {
		if conn := shown.Load(); conn != nil {
			result.serial = serialOf(*conn)
		}
	}()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotFirstResponseByte: func() { answered.Store(true) },
		GotConn:              func(got httptrace.GotConnInfo) { shown.Store(&got.Conn) },
	})
	ctx = context.WithValue(ctx, pendingKey{}, dialing)
	request := c.request.WithContext(ctx)
	aim(request, c.x, m)
	if traceparent != "" {
		request.Header = request.Header.Clone() // of a hedge, too
		request.Header.Set("Traceparent", traceparent)
	}
	transport := m.wire.std.Load()
	response, err := transport.RoundTrip(request)
	if err != nil {
		m.wire.release(transport)
	} else {
		response.Body = endWith(response.Body, func() { m.wire.release(transport) })
	}
	switch {
	case err == nil && ctx.Err() != nil:
		// An instance that sees us leave may still answer, and net/http still take it.
		_ = response.Body.Close()
		return sent[*http.Response]{progress: retry.Answered, err: context.Cause(ctx)}
	case err == nil && (response.StatusCode < 100 || response.StatusCode > 599):
		_ = response.Body.Close()
		return sent[*http.Response]{progress: retry.Answered, err: errNoStatus}
	case err == nil:
		return sent[*http.Response]{answer: response, status: response.StatusCode, deferred: deferred(response.StatusCode, response.Header.Get)}
	case unsent(err):
		return sent[*http.Response]{progress: retry.Unsent, err: err}
	case c.callOver():
		// An instance may end the call before the client is known to have left.
		return sent[*http.Response]{progress: retry.Answered, err: fmt.Errorf("%w: %w: %w", errTimeout, errCallOver, err)}
	case answered.Load():
		return sent[*http.Response]{progress: retry.Answered, err: err}
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if dialing.underWay() {
		return sent[*http.Response]{progress: retry.Unsent, err: &dialError{err}}
	}
	return sent[*http.Response]{progress: retry.Sent, err: err}
}

// aim makes a request what the route wants its instance to get.
func aim(request *http.Request, x *exchange, m *member) {
	target := *request.URL
	target.Scheme, target.Host = m.wire.manner.scheme(), m.target.instance.Address
	raw := rewriting{m.options.Strip, m.options.Prepend}.target(x.raw, x.path)
	if strings.HasPrefix(raw, "//") { // Opaque would make it the name of a host
		target.RawPath = raw
		target.Path, _ = url.PathUnescape(raw)
	} else {
		target.Opaque = raw // exactly these bytes
	}
	request.URL = &target
	request.Host = m.hostFor(x)
}

// statusRecorder remembers the status and the length of a response. Unwrap keeps
// streaming and upgrades possible.
type statusRecorder struct {
	http.ResponseWriter
	x       *exchange
	status  int
	written int64
	// panicked is told of a panic in the goroutines of a switched protocol.
	panicked func(failure any) error
}

// WriteHeader writes the head, with the request's ID. An interim answer may have
// taken the fields that were set before.
func (w *statusRecorder) WriteHeader(status int) {
	if status < 200 { // ReverseProxy passes interim answers on in a goroutine of the transport
		var told error
		defer rescued(w.panicked, &told)
	}
	if w.status < 200 {
		w.status = status
		w.Header().Set("X-Request-Id", w.x.id)
	}
	if _, typed := w.Header()["Content-Type"]; !typed && status >= 200 {
		w.Header()["Content-Type"] = nil // net/http would guess one
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusRecorder) Write(b []byte) (int, error) {
	if w.status < 200 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(b)
	w.written += int64(n)
	return n, err
}

func (w *statusRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// FlushError keeps the head of an answer without a body back until the handler ends:
// only then does HTTP/2 say in the head itself that nothing follows, and gRPC reads
// a status in the head nowhere else.
func (w *statusRecorder) FlushError() error {
	if w.x.bare {
		return nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// localPort is the port that the client has connected to.
func localPort(r *http.Request) string {
	address, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return "80"
	}
	if t, ok := address.(*net.TCPAddr); ok {
		return strconv.Itoa(t.Port)
	}
	_, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return "80"
	}
	return port
}
