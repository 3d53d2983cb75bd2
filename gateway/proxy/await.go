package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"sluice/gateway/h1"
)

// clientConn is the connection of a client, with what has to be known of it while it
// waits: all else is made for a burst of requests and gone after it.
type clientConn struct {
	own  *Own
	conn net.Conn
	// raw is the socket, nil if there is none, and idle until when the connection may
	// wait for a request; zero while it does not.
	raw  syscall.RawConn
	idle time.Time
	tls  bool
	// life outlives a stop by the drain: what requests are carried with.
	life context.Context //nolint:containedctx // see Connection
	// busy is true from the first byte of a request to the end of its answer.
	busy atomic.Bool
}

// Serve serves one connection until it ends, or ctx does: then the request in hand
// is answered, until info.Life ends. It closes the connection, unless it has passed
// it on.
//
// Requests are served in a goroutine of their own, which ends when the connection
// has been idle for a while: the stack of the one that waits stays small.
func (o *Own) Serve(ctx context.Context, conn net.Conn, info Connection) {
	c := &clientConn{own: o, conn: conn, raw: rawOf(conn), tls: info.TLS, life: info.Life}
	if c.life == nil {
		c.life = context.WithoutCancel(ctx)
	}
	stop := context.AfterFunc(ctx, func() {
		if !c.busy.Load() {
			_ = conn.SetReadDeadline(time.Unix(1, 0))
		}
	})
	defer stop()
	idle := make(chan bool)
	for {
		go func() { idle <- c.guarded(ctx) }()
		if !<-idle {
			return
		}
		if ctx.Err() != nil || awaitReadable(c.raw) != nil {
			_ = conn.Close()
			return
		}
	}
}

// guarded is a burst whose panic ends the connection and nothing else, as with net/http.
func (c *clientConn) guarded(ctx context.Context) (idle bool) {
	defer func() {
		if failure := recover(); failure != nil {
			idle = false
			_ = c.conn.Close()
			_ = c.own.p.Panicked(failure)
		}
	}()
	return c.open().burst(ctx)
}

// open makes ready for a burst of requests.
func (c *clientConn) open() *session {
	s := &session{clientConn: c, p: c.own.p, body: &client{Conn: c.conn, write: c.own.cfg.Write}}
	s.carrier.session = s
	s.reader, s.writer = c.own.pool.NewReader(s.body, c.own.cfg.Limits), c.own.pool.NewWriter(s.body)
	if peer, err := netip.ParseAddrPort(c.conn.RemoteAddr().String()); err == nil {
		s.peer, s.peerPort = peer.Addr().Unmap(), peer.Port()
		s.peerText = s.peer.String()
	}
	s.port = "80"
	if local, err := netip.ParseAddrPort(c.conn.LocalAddr().String()); err == nil {
		s.port = strconv.Itoa(int(local.Port()))
	}
	return s
}

// burst serves requests until the connection is idle, which is true, or ends.
func (s *session) burst(ctx context.Context) (idle bool) {
	s.own.bursts.Add(1)
	defer s.own.bursts.Add(-1)
	for {
		ready, idle := s.next(ctx)
		if idle {
			return true
		}
		if !ready {
			break
		}
		if passed := s.serve(ctx); passed {
			return false
		}
		s.busy.Store(false)
		if s.closing || s.broken || ctx.Err() != nil {
			break
		}
	}
	s.close()
	return false
}

// next waits for a request and reads its head. ready is false at the end of the
// connection, and if it is idle.
func (s *session) next(ctx context.Context) (ready, idle bool) {
	s.body.patience = 0
	if s.reader.Buffered() == 0 {
		if ready, idle := s.await(ctx); !ready {
			return false, idle
		}
	}
	s.busy.Store(true)
	s.idle = time.Time{}
	s.body.head = s.own.cfg.Header
	s.body.readUntil = s.until(s.own.cfg.Request)
	err := s.reader.ReadRequest(&s.request)
	s.body.head = 0
	if s.own.cfg.Answer > 0 {
		s.body.writeUntil, s.body.wrote = s.until(s.own.cfg.Answer), time.Time{}
	}
	s.begin()
	if err == nil {
		return true, false
	}
	var refused *h1.Error
	if errors.As(err, &refused) {
		s.closing = true
		s.x.err = err
		_ = s.writePage(&page{Status: refused.Status, Title: http.StatusText(refused.Status), Reason: "The request is refused: " + refused.Reason + "."})
		s.account(refused.Status)
	}
	return false, false
}

// until is when a time is over that begins now; zero if there is none.
func (s *session) until(d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

const (
	// keepBuffer is how long an idle connection keeps its buffer: under load, requests
	// follow each other faster.
	keepBuffer = 500 * time.Millisecond
	// keepBuffers is of how many connections at a time, for that long.
	keepBuffers = 1000
)

// await waits for the first byte of a request. A connection that stays idle gives
// its buffer back: ten thousand of them would hold forty megabytes.
func (s *session) await(ctx context.Context) (ready, idle bool) {
	now := s.ended
	if now.IsZero() {
		now = time.Now()
	}
	if s.idle.IsZero() {
		s.idle = now.Add(s.own.cfg.Idle)
	}
	brief := s.idle
	if s.raw != nil {
		brief = now.Add(keepBuffer * keepBuffers / time.Duration(max(keepBuffers, s.own.bursts.Load())))
	}
	last := !brief.Before(s.idle)
	if last {
		brief = s.idle
	}
	// Of a brief wait the last quarter is as good: the deadline of the request before
	// may stand.
	if soonest := brief.Add(-brief.Sub(now) / 4); last || s.body.readBy.Before(soonest) || s.body.readBy.After(brief) {
		s.body.setRead(brief)
	}
	if ctx.Err() != nil {
		return false, false // the end came before the deadline was moved
	}
	err := s.reader.Wait()
	if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil || last {
		return err == nil, false
	}
	s.reader.Release()
	s.p.rested.Add(1)
	s.body.setRead(s.idle)
	return false, true
}
