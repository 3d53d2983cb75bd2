package tcp

import (
	"context"
	"errors"
	"net"
	"time"
)

// passOn gives the connection to the fallback, with what was read of it.
func (s *Server) passOn(c *connection, read []byte) error {
	if err := c.client.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	s.cfg.Table.count.passedOn.Add(1)
	s.cfg.Fallback(&replayed{Conn: c.client, read: read})
	return errPassedOn
}

// replayed is a connection whose first bytes have been read already. It is read
// by one goroutine at a time.
type replayed struct {
	net.Conn
	read []byte
}

// Read gives the bytes that were read, then those that come.
func (r *replayed) Read(p []byte) (int, error) {
	if len(r.read) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.read)
	r.read = r.read[n:]
	return n, nil
}

// CloseWrite tells the peer that nothing more will come.
func (r *replayed) CloseWrite() error {
	if half, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Handoff is a net.Listener whose connections are given to it, for a Fallback
// that is a server of its own. It is safe for concurrent use.
type Handoff struct {
	addr  net.Addr
	conns chan net.Conn
	done  context.Context
	stop  context.CancelFunc
}

// NewHandoff returns a Handoff that says to listen on addr.
func NewHandoff(addr net.Addr) *Handoff {
	h := &Handoff{addr: addr, conns: make(chan net.Conn)}
	h.done, h.stop = context.WithCancel(context.Background())
	return h
}

// Give hands conn to the next Accept and returns when it is taken. After Close it
// closes conn. It has the form of Config.Fallback.
func (h *Handoff) Give(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.done.Done():
		_ = conn.Close()
	}
}

// Accept returns the next connection.
func (h *Handoff) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.done.Done():
		return nil, net.ErrClosed
	}
}

// Close ends every Accept and Give.
func (h *Handoff) Close() error {
	h.stop()
	return nil
}

// Addr returns the address given to NewHandoff.
func (h *Handoff) Addr() net.Addr { return h.addr }
