package proxy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"sluice/gateway/h1"
)

// OwnConfig is how connections are served with the gateway's own codec. Zero
// fields have the defaults that are named.
type OwnConfig struct {
	Limits h1.Limits
	// Header is how long a request's head may take, 10 s; Idle how long a connection
	// may wait for the next request, 90 s; BodyIdle how long a body may pause in
	// either direction, 60 s, but for server-sent events, and negative for ever; Write how
	// long a client may take no bytes, 60 s.
	Header, Idle, BodyIdle, Write time.Duration
	// Request bounds a request from its first byte to the end of its body, and Answer an
	// answer from the end of the request's head to its own end; 0 is no bound.
	Request, Answer time.Duration
	// MaxBody bounds the body of a request, in bytes, and MinBodyRate is the least it
	// may come with, in bytes per second, after a grace of 10 s; 0 is no bound.
	MaxBody, MinBodyRate int64
	// Fallback serves connections whose request needs net/http, such as a WebSocket,
	// with that request and what follows. It owns them. nil refuses such requests.
	Fallback func(net.Conn)
}

// forever is longer than any connection lives.
const forever = 10 * 365 * 24 * time.Hour

// Own serves HTTP/1.1 connections with the gateway's own codec: one goroutine per
// connection, heads read in place, and bodies copied once.
type Own struct {
	p    *Proxy
	cfg  OwnConfig
	pool *h1.Pool
	// bursts is how many connections are not idle, or have not been for long.
	bursts atomic.Int64
}

// Own returns a server that shares the proxy's routes.
func (p *Proxy) Own(cfg OwnConfig) *Own {
	cfg.Header = cmp.Or(cfg.Header, 10*time.Second)
	cfg.Idle = cmp.Or(cfg.Idle, 90*time.Second)
	cfg.BodyIdle = cmp.Or(cfg.BodyIdle, time.Minute)
	if cfg.BodyIdle < 0 {
		cfg.BodyIdle = forever
	}
	cfg.Write = cmp.Or(cfg.Write, time.Minute)
	cfg.Limits.Body = cfg.MaxBody
	return &Own{p: p, cfg: cfg, pool: h1.NewPool()}
}

// session is a burst of requests on one client connection.
type session struct {
	*clientConn
	p        *Proxy
	body     *client
	reader   *h1.Reader
	writer   *h1.Writer
	request  h1.Request
	peer     netip.Addr
	peerPort uint16
	peerText string
	// port is where the client has connected to.
	port  string
	lines []string
	// ended is when the last answer was given.
	ended time.Time
	// ids are IDs for the next requests, one behind the other.
	ids string

	// Of the request in hand:
	x       *exchange
	ex      exchange
	in, out int64
	// closing is true if the connection ends with the answer, broken if it is of no
	// use any more.
	closing, broken bool
	carrier         ownCarrier
}

// Connection is what is known about a client's connection.
type Connection struct {
	// TLS is true if the client came over TLS.
	TLS bool
	// Life ends when the connection is not to be waited for any longer, and with it the
	// request in hand; nil is never.
	Life context.Context //nolint:containedctx // it is the connection's, as the one of an http.Request is its own
}

// begin makes everything ready for the request whose head was read.
func (s *session) begin() {
	s.x, s.ex = &s.ex, exchange{}
	s.in, s.out, s.closing, s.broken = 0, 0, false, false
	x, r := s.x, &s.request
	x.begin(s.nextID(), s.p.now())
	x.ask = ask{
		method: text(r.Method), host: text(r.Host), raw: text(r.Path), path: text(r.Path), query: text(r.Query), hasQuery: r.HasQuery,
		peer: s.peer, port: s.peerPort, client: s.peer, tls: s.tls, hasBody: r.Body.Kind == h1.Chunked || r.Body.Length > 0,
	}
	if strings.IndexByte(x.raw, '%') >= 0 {
		x.path, _ = url.PathUnescape(x.raw) // the codec has looked at the escapes
	}
	if s.p.cfg.Trusted.Empty() {
		x.clientText = s.peerText
	} else {
		s.lines = s.lines[:0]
		for i := range r.Fields {
			if is(r.Fields[i].Name, "X-Forwarded-For") {
				s.lines = append(s.lines, string(r.Fields[i].Value))
			}
		}
		x.client = s.p.clientOf(s.peer, s.lines)
		if s.p.cfg.Trusted.Contains(s.peer) {
			x.hear(s.only)
		}
	}
	s.closing = !r.KeepAlive
	if s.p.cfg.Tracer != nil {
		s.p.span(x, string(r.Get("Traceparent")))
	}
}

// text is a string that shares the bytes of a buffer: it holds as long as they do.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// serve answers one request. passed means that the connection is another's now.
func (s *session) serve(ctx context.Context) (passed bool) {
	answer := s.p.admit(s.life, s.x, s.only("Authorization"))
	if answer == nil && s.needsStd() {
		if s.own.cfg.Fallback != nil {
			s.passOn()
			return true
		}
		answer = &page{Status: http.StatusNotImplemented, Title: "Not supported", Reason: "This listener switches no protocols."}
	}
	if answer != nil {
		s.refuse(answer)
		return false
	}
	s.x.stick(func(name string) string { return string(s.request.Get(name)) }, s.cookie)
	c := &s.carrier
	c.deadline, c.used = s.p.system(s.x.started).Add(s.x.plan.timeout), false
	done, err := carry[response](s.life, s.p, s.x, c)
	s.closing = s.closing || ctx.Err() != nil
	if err != nil {
		s.fail(err, c.used)
		return false
	}
	s.deliver(done)
	return false
}

// needsStd reports whether the request is for net/http.
func (s *session) needsStd() bool {
	if s.request.Upgrade != nil {
		return true
	}
	for i := range s.x.plan.members {
		if s.x.plan.members[i].wire.manner.h2 {
			return true
		}
	}
	return false
}

// only returns the value of the only field with a name, "" if there is none or more.
func (s *session) only(name string) string {
	value, n := "", 0
	for i := range s.request.Fields {
		if is(s.request.Fields[i].Name, name) {
			value, n = string(s.request.Fields[i].Value), n+1
		}
	}
	if n != 1 {
		return ""
	}
	return value
}

func (s *session) cookie(name string) string {
	for i := range s.request.Fields {
		if f := &s.request.Fields[i]; is(f.Name, "Cookie") {
			cookies, err := http.ParseCookie(string(f.Value))
			for _, cookie := range cookies {
				if err == nil && cookie.Name == name {
					return cookie.Value
				}
			}
		}
	}
	return ""
}

// refuse answers with a page, before anything was read of the body.
func (s *session) refuse(answer *page) {
	// A client that waits for leave to send its body gets an answer instead, and
	// too large a body is not read.
	if s.x.hasBody && (s.request.Expect100 || s.request.Body.Length > drainLimit) {
		s.closing = true
	}
	if err := s.writePage(answer); err != nil {
		s.broken = true
	}
	s.drain(false)
	s.account(answer.Status)
}

// fail answers a request that nobody has answered.
func (s *session) fail(err error, used bool) {
	s.x.err = err
	var read *h1.ReadError
	var refused *h1.Error
	answer := s.p.pageFor(s.x, err)
	switch {
	case errors.As(err, &read) && errors.As(err, &refused):
		answer = pageRefusedBody(refused)
	case errors.As(err, &read) && isTimeout(err):
		answer = &page{Status: http.StatusRequestTimeout, Title: "Request too slow", Reason: "The body of the request did not come in time."}
	case errors.As(err, &read), errors.Is(err, context.Canceled), errors.Is(err, errClientGone):
		s.broken = true
		s.account(0)
		return
	}
	s.closing = s.closing || s.x.hasBody
	if err := s.writePage(answer); err != nil {
		s.broken = true
	}
	s.drain(used)
	s.account(answer.Status)
}

// drainLimit is how much of a body is read that nobody wants, in bytes, to keep
// the connection, or to let the client read the answer before it ends.
const drainLimit = 256 << 10

// drain reads what is left of the body.
func (s *session) drain(used bool) {
	if !s.x.hasBody || used || s.broken || s.request.Expect100 {
		return
	}
	s.body.patience, s.body.armed = min(s.own.cfg.BodyIdle, time.Second), time.Time{}
	s.body.pace = pace{} // of the body before
	drained, err := s.reader.Discard(s.request.Body, drainLimit)
	s.closing = s.closing || !drained
	s.broken = s.broken || err != nil
}

// deliver passes an answer on to the client.
func (s *session) deliver(done carried[response]) {
	up, sending := done.answer.conn, done.answer.upload
	held := true
	defer func() {
		if held { // a panic: the instance must not have the request for ever
			up.end()
			done.end()
		}
	}()
	from := up.response.Body
	to := from
	if from.Kind == h1.UntilClose || from.Kind == h1.Chunked && s.request.Minor == 0 {
		to = h1.Framing{Kind: h1.Chunked}
		if s.request.Minor == 0 {
			to.Kind, s.closing = h1.UntilClose, true
		}
	}
	unsent := s.x.hasBody && sending == nil // it was held back, and is not wanted
	s.closing = s.closing || unsent
	if sending != nil {
		sending.settle()
		s.closing = s.closing || !sending.over() || sending.err != nil // the answer came before the request was whole
	}
	s.writeAnswerHead(&up.response, to)
	status := up.response.Status
	up.patience, up.armed, up.life = s.own.cfg.BodyIdle, time.Time{}, s.life
	if isEventStream(up.response.Get("Content-Type")) {
		up.patience, up.listener = min(up.patience, lookAtListener), s.conn
	}
	n, err := up.reader.CopyBodyAs(s.writer, from, to.Kind, s.request.TETrailers)
	s.out = n
	cut := !up.settled()
	if cut && err != nil {
		err = errCutOff
	}
	if sending != nil {
		sending.stop(s, up)
		s.in = sending.n
		s.closing = s.closing || sending.err != nil
		s.broken = s.broken || sending.failed
	}
	// An instance may still wait for a body that was announced.
	reusable := !unsent && err == nil && up.response.KeepAlive && from.Kind != h1.UntilClose && (sending == nil || sending.err == nil) && !cut && !up.left()
	if err != nil {
		s.broken = true
		s.x.err = s.p.blame(done.member, err)
	}
	now := s.p.now()
	held = false
	if reusable {
		done.member.wire.own.give(up, s.p.system(now))
	} else {
		up.end()
	}
	done.end()
	s.accountAt(status, now)
}

// blame says who broke an answer that had begun.
func (p *Proxy) blame(m *member, err error) error {
	var write *h1.WriteError
	if errors.As(err, &write) || errors.Is(err, errClientGone) {
		return errClientGone
	}
	if m.mesh() {
		if denied := p.denied(m.target.service); denied != nil {
			return denied
		}
	}
	var read *h1.ReadError
	if errors.As(err, &read) {
		err = read.Err // it was the instance's body, and no client's
	}
	return wrap(m, err)
}

// account ends the exchange.
func (s *session) account(status int) { s.accountAt(status, s.p.now()) }

func (s *session) accountAt(status int, now time.Time) {
	s.x.drained(s.life)
	s.ended = s.p.system(now)
	s.p.account(s.x, ownHead{s}, ending{status, s.in, s.out, now})
}

type ownHead struct{ *session }

// Get returns a field of the request.
func (h ownHead) Get(name string) string { return string(h.request.Get(name)) }

func (h ownHead) protocol() string { return "HTTP/1." + strconv.Itoa(h.request.Minor) }

// close ends the connection. After an answer that the client may not have read
// yet, it is given a moment: a reset would take the answer from it.
func (s *session) close() {
	if half, ok := s.conn.(interface{ CloseWrite() error }); ok && s.closing && !s.broken && half.CloseWrite() == nil {
		_ = s.conn.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.Copy(io.Discard, s.conn)
	}
	_ = s.conn.Close()
	s.reader.Release()
	s.writer.Release()
}

// lingerTime bounds the wait for a client's end after the last answer.
const lingerTime = 500 * time.Millisecond
