package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// preface is what an HTTP/2 connection begins with (RFC 9113, section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// phases are the contexts of a connection.
type phases struct {
	// serve ends when a stop begins, arrive when connections that nobody serves by
	// then are given up, life when those that are served are cut.
	serve, arrive, life context.Context
}

// admitAll starts the life of each connection of listener, until a stop.
func (s *Server) admitAll(p phases, listener net.Listener) error {
	stop := context.AfterFunc(p.serve, func() { _ = listener.Close() })
	defer stop()
	defer func() { _ = listener.Close() }()
	for {
		inner, err := listener.Accept()
		var passing interface{ Temporary() bool }
		switch {
		case err == nil:
			s.admit(p, inner)
		case p.serve.Err() != nil:
			return nil
		case errors.As(err, &passing) && passing.Temporary():
			// Most often there are no descriptors left, until some connection ends.
			select {
			case <-time.After(10 * time.Millisecond):
			case <-p.serve.Done():
				return nil
			}
		default:
			return fmt.Errorf("accept: %w", err)
		}
	}
}

// admit starts the life of a connection that has entered the gate. drain waits for
// the goroutine, which ends with the connection if Own serves it.
func (s *Server) admit(p phases, inner net.Conn) {
	c := s.gate.hold(inner)
	c.info.Life = p.life
	s.arriving.add(1)
	go func() {
		client := s.bring(p.arrive, c)
		if client == nil {
			return
		}
		defer s.served.add(-1)
		defer s.rescue(c)
		s.cfg.Own(p.serve, client, c.info)
	}()
}

// bring leads a connection to what serves it. It returns what is for Own, and has
// counted it as served.
func (s *Server) bring(ctx context.Context, c *conn) net.Conn {
	defer s.arriving.add(-1)
	defer s.rescue(c)
	client, own := s.arrive(ctx, c)
	switch {
	case client == nil:
		_ = c.Close()
	case own:
		s.served.add(1)
		return client
	default:
		s.handoff.Give(client)
	}
	return nil
}

// rescue is deferred: a panic costs its connection and nothing else.
func (s *Server) rescue(c *conn) {
	if failure := recover(); failure != nil {
		_ = s.cfg.Panicked(failure)
		_ = c.Close()
	}
}

// arrive finds out what a connection speaks, and whether Own serves it. It returns
// nil if the connection did not get that far.
func (s *Server) arrive(ctx context.Context, c *conn) (client net.Conn, own bool) {
	own = s.cfg.Own != nil
	switch {
	case s.tls != nil:
		session, err := s.shake(ctx, c)
		if err != nil {
			return nil, false
		}
		return session, own && session.ConnectionState().NegotiatedProtocol != "h2"
	case own && s.cfg.Listener.AllowsH2C():
		peeked, http2, err := s.peek(ctx, c)
		if err != nil {
			return nil, false
		}
		return peeked, !http2
	}
	return c, own
}

// peek reads as much of a connection as it takes to know whether it is HTTP/2.
func (s *Server) peek(ctx context.Context, c *conn) (*peeked, bool, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if err := c.SetReadDeadline(time.Now().Add(s.cfg.Header)); err != nil {
		return nil, false, err
	}
	p := &peeked{conn: c, read: make([]byte, 0, len(preface))}
	for {
		n, err := c.Read(p.read[len(p.read):cap(p.read)])
		p.read = p.read[:len(p.read)+n]
		same := string(p.read) == preface[:len(p.read)]
		switch {
		case !same || len(p.read) == len(preface):
			return p, same, c.SetReadDeadline(time.Time{})
		case err != nil:
			return nil, false, err
		}
	}
}

// peeked is a connection whose first bytes have been read already. It is read by
// one goroutine at a time.
type peeked struct {
	*conn
	read []byte
}

// Read gives the bytes that were read, then those that come.
func (p *peeked) Read(b []byte) (int, error) {
	if len(p.read) == 0 {
		return p.conn.Read(b)
	}
	n := copy(b, p.read)
	p.read = p.read[n:]
	return n, nil
}

// NetConn returns what was peeked at.
func (p *peeked) NetConn() net.Conn { return p.conn }
