package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"sluice/gateway/h1"
	"sluice/gateway/retry"
)

const (
	// look is how often it is looked whether the client is still there while an
	// instance thinks.
	look = time.Second
	// expectWait is how long an instance may take to ask for the body that a client
	// holds back (RFC 9110, section 10.1.1).
	expectWait = time.Second
)

var (
	errClientGone = errors.New("the client has gone")
	errCutOff     = errors.New("the gateway is stopping, and the rest of the answer has not come in time")
	errSwitched   = errors.New("the instance switched protocols without being asked")
)

// response is an answer whose head has come; its body is still on conn.
type response struct {
	*conn
	upload *upload
}

// ownCarrier sends a request through the gateway's own codec.
type ownCarrier struct {
	*session
	deadline time.Time
	// used is true once bytes of the client's body were taken.
	used bool
	// interims is held while an interim answer is passed on: of a hedged request, two
	// attempts may get one at a time.
	interims sync.Mutex
}

func (c *ownCarrier) spent() bool { return c.used }

func (c *ownCarrier) drop(r response) { r.conn.end() }

// bound implements carrier: a context for each request would cost each of them.
func (c *ownCarrier) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadlineCause(ctx, c.deadline, errTimeout)
}

// send implements carrier. A connection that was kept may be over when it is
// used again; that says nothing about the instance, so a request that may be
// repeated is sent to it once more.
func (c *ownCarrier) send(ctx context.Context, m *member, now time.Time) sent[response] {
	traceparent, end := c.p.try(c.x, m)
	answer := c.trySend(ctx, m, traceparent, c.p.system(now))
	end(answer.status, answer.err)
	return answer
}

func (c *ownCarrier) trySend(ctx context.Context, m *member, traceparent string, now time.Time) sent[response] {
	repeatable := !c.x.hasBody && retry.Idempotent(c.x.method)
	if up := m.wire.own.take(now); up != nil {
		answer := c.over(ctx, up, m, traceparent, now)
		if answer.err == nil || !repeatable || answer.progress == retry.Answered || isTimeout(answer.err) || errors.Is(answer.err, errClientGone) || ctx.Err() != nil {
			return answer
		}
		if m.mesh() && c.p.denied(m.target.service) != nil {
			return answer
		}
	}
	dialing := &pending{}
	up, err := c.connect(ctx, dialing, m)
	if err != nil {
		return sent[response]{progress: retry.Unsent, err: err, pending: dialing}
	}
	return c.over(ctx, up, m, traceparent, time.Now())
}

// over sends the request over a connection.
func (c *ownCarrier) over(ctx context.Context, up *conn, m *member, traceparent string, now time.Time) sent[response] {
	stop := noStop
	if c.x.plan.options.Hedge > 0 {
		stop = context.AfterFunc(ctx, up.stop)
	}
	answer, progress, err := c.exchange(ctx, up, m, traceparent, now)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		up.end()
		return sent[response]{progress: progress, err: err, serial: up.serial}
	}
	return sent[response]{answer: answer, status: up.response.Status, serial: up.serial, deferred: deferred(up.response.Status, up.response.Get)}
}

func noStop() bool { return true }

// connect makes a new connection. Only an attempt that runs against another one is
// ever given up while it is made: whether the client is there, nobody looks then.
func (c *ownCarrier) connect(ctx context.Context, dialing *pending, m *member) (*conn, error) {
	ctx, cancel := context.WithDeadlineCause(ctx, c.deadline, errTimeout)
	defer cancel()
	era := m.wire.own.current()
	began := time.Now()
	var dialled net.Conn
	var err error
	if c.x.plan.options.Hedge > 0 {
		dialled, err = c.p.dialApart(ctx, dialing, m.target, m.wire.manner)
	} else {
		dialled, err = c.p.dial(ctx, m.target, m.wire.manner)
	}
	if err != nil {
		return nil, err
	}
	serial := serialOf(dialled)
	if m.wire.manner.tls {
		if dialled, err = c.p.secure(ctx, dialled, m, began); err != nil {
			return nil, err
		}
	}
	_, bare := dialled.(*net.TCPConn)
	up := &conn{Conn: dialled, era: era, bare: bare, serial: serial}
	up.peeker.begin(dialled)
	up.reader = c.own.pool.NewReader(up, h1.Limits{Head: maxResponseHead})
	up.writer = c.own.pool.NewWriter(up)
	return up, nil
}

// secure speaks TLS without the mesh with an instance, within the time for a dial that
// began then. It closes the connection if that fails.
func (p *Proxy) secure(ctx context.Context, conn net.Conn, m *member, began time.Time) (net.Conn, error) {
	ctx, cancel := context.WithDeadline(ctx, began.Add(p.cfg.Dial))
	defer cancel()
	name, _, _ := net.SplitHostPort(m.target.instance.Address)
	secure := tls.Client(conn, &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: name,
		InsecureSkipVerify: m.wire.manner.skipVerify, //nolint:gosec // see transport
	})
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, &dialError{err}
	}
	return secure, nil
}

// exchange sends the request and waits for the head of the answer.
func (c *ownCarrier) exchange(ctx context.Context, up *conn, m *member, traceparent string, now time.Time) (response, retry.Progress, error) {
	progress := retry.Sent
	up.response.Status = 0
	if err := up.writeFrom(c.deadline, c.x.plan.timeout); err != nil {
		return response{}, retry.Unsent, err
	}
	c.writeHead(up.writer, m, traceparent)
	var sending *upload
	switch {
	case !c.x.hasBody:
	case c.request.Expect100:
		proceed, err := c.expected(up)
		if err != nil {
			if heard(up, err) {
				progress = retry.Answered
			}
			return response{}, progress, err
		}
		if !proceed {
			return response{conn: up}, progress, nil
		}
		fallthrough
	default:
		c.used = true
		if sending = c.startUpload(up); sending.clientBroke() {
			return response{}, progress, sending.err
		}
		now = time.Now()
	}
	if sending == nil {
		if err := up.writer.Flush(); err != nil {
			return response{}, unsentIf(up, progress), err
		}
	}
	if err := c.awaitHead(ctx, up, sending, now); err != nil {
		if sending != nil {
			sending.stop(c.session, up)
			if sending.clientBroke() {
				err = sending.err
			}
		}
		if heard(up, err) {
			progress = retry.Answered
		}
		return response{}, progress, err
	}
	return response{up, sending}, progress, nil
}

// heard reports whether anything of an answer has come, were it malformed: the
// instance has the request, and asking again would have it carried out twice.
func heard(up *conn, err error) bool {
	var refused *h1.Error
	return up.reader.Buffered() > 0 || up.response.Status != 0 || errors.As(err, &refused)
}

// unsentIf is the progress of a request whose head could not be written: the
// instance has seen nothing if the connection took nothing.
func unsentIf(up *conn, progress retry.Progress) retry.Progress {
	if up.writer.Written() == 0 {
		return retry.Unsent
	}
	return progress
}

// expected sends the head alone and waits until the instance asks for the body,
// or until it has waited long enough. false means that it has answered without.
func (c *ownCarrier) expected(up *conn) (proceed bool, err error) {
	if err := up.writer.Flush(); err != nil {
		return false, err
	}
	until := time.Now().Add(expectWait)
	for up.response.Status != http.StatusContinue {
		_ = up.setRead(until)
		err = up.reader.Wait()
		_ = up.setRead(c.deadline)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err == nil {
			err = up.reader.ReadResponse(&up.response, c.request.Method)
		}
		if err == nil && up.response.Status >= 200 {
			return false, nil
		}
		if err == nil {
			err = c.interim(up)
		}
		if err != nil {
			return false, err
		}
	}
	c.writer.String("HTTP/1.1 100 Continue\r\n\r\n")
	return true, c.writer.Flush()
}

// awaitHead reads the head of the final answer. Interim answers are passed on,
// except 100: the client's body is on its way already.
func (c *ownCarrier) awaitHead(ctx context.Context, up *conn, sending *upload, now time.Time) error {
	for ; ; now = time.Now() {
		up.headBy = time.Time{}
		if err := c.awaitAnswer(ctx, up, sending, now); err != nil {
			return err
		}
		up.headBy = c.deadline
		if err := up.reader.ReadResponse(&up.response, c.request.Method); err != nil {
			return err
		}
		if up.response.Status >= 200 {
			return sending.fault()
		}
		if err := c.interim(up); err != nil {
			return err
		}
	}
}

// interim passes an interim answer on.
func (c *ownCarrier) interim(up *conn) error {
	switch status := up.response.Status; {
	case status == http.StatusSwitchingProtocols:
		return errSwitched
	case status == http.StatusContinue || c.request.Minor == 0:
		return nil
	}
	c.interims.Lock()
	defer c.interims.Unlock()
	c.writer.StatusLine(up.response.Status, up.response.Reason)
	c.copyFields(up.response.Fields)
	c.writer.EndHead()
	if err := c.writer.Flush(); err != nil {
		return errClientGone
	}
	return nil
}

// awaitAnswer waits for the first byte, and looks now and then whether the client
// still does. The time for an answer counts from the end of the request.
func (c *ownCarrier) awaitAnswer(ctx context.Context, up *conn, sending *upload, now time.Time) error {
	if up.reader.Buffered() > 0 {
		return up.readWithin(time.Unix(1, 0), c.deadline)
	}
	for ; ; now = time.Now() {
		uploading := sending != nil && !sending.over()
		if uploading {
			c.deadline = now.Add(c.x.plan.timeout)
		}
		next := now.Add(look)
		if next.After(c.deadline) {
			next = c.deadline
		}
		// Within the last quarter of the time: a look at the client may come early.
		if err := up.readWithin(next.Add(-next.Sub(now)/4), next); err != nil {
			return err
		}
		if ctx.Err() != nil { // its end has moved the deadline before we did
			return context.Cause(ctx)
		}
		err := up.reader.Wait()
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		switch {
		case uploading:
		case !time.Now().Before(c.deadline):
			return errTimeout
		case gone(c.conn):
			return errClientGone
		}
	}
}
