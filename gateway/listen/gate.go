package listen

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"sluice/gateway/acl"
)

// tally counts what is there, and tells when nothing is left. Unlike a WaitGroup
// it may be added to while somebody waits, and a wait may be given up.
type tally struct {
	mu    sync.Mutex
	n     int
	empty chan struct{} // not nil while somebody waits
}

func (t *tally) add(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n += n
	if t.n == 0 && t.empty != nil {
		close(t.empty)
		t.empty = nil
	}
}

// wait returns when nothing is left, and reports false if ctx ended before.
func (t *tally) wait(ctx context.Context) bool {
	t.mu.Lock()
	if t.n == 0 {
		t.mu.Unlock()
		return true
	}
	if t.empty == nil {
		t.empty = make(chan struct{})
	}
	empty := t.empty
	t.mu.Unlock()
	select {
	case <-empty:
		return true
	case <-ctx.Done():
		return false
	}
}

// gate knows all connections of a listener and keeps them within its limit.
type gate struct {
	limit             int
	accepted, refused atomic.Uint64

	mu sync.Mutex
	n  int // with those that package tcp carries
	// live are the others.
	live map[*conn]struct{}
	left tally // n once more, to wait for
}

// enter takes one more connection, or reports false.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n >= g.limit {
		g.refused.Add(1)
		return false
	}
	g.accepted.Add(1)
	g.n++
	g.left.add(1)
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n--
	g.left.add(-1)
}

func (g *gate) open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

// hold returns a connection that has entered as one that leaves when it is closed.
func (g *gate) hold(inner net.Conn) *conn {
	c := &conn{Conn: inner, gate: g, info: infoOf(inner)}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.live == nil {
		g.live = map[*conn]struct{}{}
	}
	g.live[c] = struct{}{}
	return c
}

// certify keeps what the client of a connection has shown.
func (g *gate) certify(c *conn, shown certified) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.shown = shown
}

// certified returns the connections whose clients have shown a certificate.
func (g *gate) certified() map[*conn]certified {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := map[*conn]certified{}
	for c := range g.live {
		if len(c.shown.chain) > 0 {
			all[c] = c.shown
		}
	}
	return all
}

// cutAll resets every connection that is left, and returns how many.
func (g *gate) cutAll() int {
	g.mu.Lock()
	left := make([]*conn, 0, len(g.live))
	for c := range g.live {
		left = append(left, c)
	}
	g.mu.Unlock()
	for _, c := range left {
		reset(c.Conn)
		_ = c.Close()
	}
	return len(left)
}

// gated is a listener whose connections are within the limit. Those beyond it are
// reset at once: a client that is told can go elsewhere, one that waits cannot.
type gated struct {
	net.Listener
	gate *gate
}

// Accept returns the next connection that has entered.
func (l *gated) Accept() (net.Conn, error) {
	for {
		inner, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.gate.enter() {
			return inner, nil
		}
		reset(inner)
	}
}

// conn is a connection of the gate.
type conn struct {
	net.Conn
	gate *gate
	info Info
	once sync.Once
	// shown is under the gate's lock.
	shown certified
}

// Close leaves the gate.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.gate.mu.Lock()
		delete(c.gate.live, c)
		c.gate.mu.Unlock()
		c.gate.leave()
	})
	return err
}

// NetConn returns the connection below.
func (c *conn) NetConn() net.Conn { return c.Conn }

// CloseWrite tells the client that nothing more will come.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// ReadFrom leaves it to the socket how the bytes get there.
func (c *conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// reset ends a connection so that the client learns of it at once, and that it was
// no proper end.
func reset(inner net.Conn) {
	if linger, ok := inner.(interface{ SetLinger(int) error }); ok {
		_ = linger.SetLinger(0)
	}
	_ = inner.Close()
}

// filter refuses whoever is no load balancer, before a byte is read.
type filter struct {
	net.Listener
	from    acl.Networks
	others  bool
	refused atomic.Uint64
}

// Accept returns the next connection that may be.
func (f *filter) Accept() (net.Conn, error) {
	for {
		inner, err := f.Listener.Accept()
		if err != nil || f.others || f.from.Contains(addressOf(inner.RemoteAddr()).Addr()) {
			return inner, err
		}
		f.refused.Add(1)
		reset(inner)
	}
}

// addressOf returns the address in its plain form, or the zero AddrPort.
func addressOf(addr net.Addr) netip.AddrPort {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		a := tcp.AddrPort()
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	return netip.AddrPort{}
}
