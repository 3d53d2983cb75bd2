package proxyproto

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// DefaultTimeout is how long a header may take. Fabio's is 250 ms, which one lost
	// packet exceeds.
	DefaultTimeout = 3 * time.Second
	// DefaultPending is how many connections may be without their header at once.
	DefaultPending = 1024
)

// Config is what a Listener is made of.
type Config struct {
	// Trusted reports whether an address may say who the client is, and so must. nil
	// trusts nobody, and then no header is read at all.
	Trusted func(netip.Addr) bool
	// Timeout bounds the wait for a header; 0 is DefaultTimeout.
	Timeout time.Duration
	// Pending bounds the connections whose header has not come; beyond it new ones
	// are closed. 0 is DefaultPending.
	Pending int
	// Panicked counts and logs a panic of one connection, which is over with it; nil
	// logs alone.
	Panicked func(failure any) error
	// Logger gets a line, at level debug, per connection refused; nil is silent.
	Logger *slog.Logger
}

// Counters count what a Listener has done. They never decrease.
type Counters struct {
	// Accepted connections had a header; Direct ones came from an address that is
	// not trusted and were passed on as they are.
	Accepted, Direct uint64
	// Refused connections had no header, a malformed one, or not in time. Overflow
	// were closed because too many were waiting.
	Refused, Overflow uint64
}

// Listener accepts connections whose header has been read: RemoteAddr is the
// client's. It is a net.Listener, and safe for concurrent use.
type Listener struct {
	inner net.Listener
	cfg   Config
	ready chan net.Conn
	done  context.Context
	stop  context.CancelCauseFunc
	// work is the accept loop and everything that it has started.
	work    sync.WaitGroup
	pending chan struct{}
	count   struct{ accepted, direct, refused, overflow atomic.Uint64 }
}

// Listen returns a Listener on top of inner, which it owns from then on. Close
// ends it.
func Listen(inner net.Listener, cfg Config) *Listener {
	if cfg.Trusted == nil {
		cfg.Trusted = func(netip.Addr) bool { return false }
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Pending <= 0 {
		cfg.Pending = DefaultPending
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Panicked == nil {
		cfg.Panicked = func(failure any) error {
			cfg.Logger.Error("a connection has ended in a panic", "panic", failure, "stack", string(debug.Stack()))
			return fmt.Errorf("a fault of the gateway: %v", failure)
		}
	}
	l := &Listener{inner: inner, cfg: cfg, ready: make(chan net.Conn), pending: make(chan struct{}, cfg.Pending)}
	l.done, l.stop = context.WithCancelCause(context.Background())
	l.work.Go(l.acceptAll)
	return l
}

// Addr returns the address that is listened on.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Counters returns the counters at this moment.
func (l *Listener) Counters() Counters {
	return Counters{
		Accepted: l.count.accepted.Load(), Direct: l.count.direct.Load(),
		Refused: l.count.refused.Load(), Overflow: l.count.overflow.Load(),
	}
}

// Accept returns the next connection whose client is known.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.ready:
		return conn, nil
	case <-l.done.Done():
		return nil, context.Cause(l.done)
	}
}

// Close stops accepting, closes what waits for its header or for Accept, and
// returns when all that has ended.
func (l *Listener) Close() error {
	l.stop(net.ErrClosed)
	err := l.inner.Close()
	l.work.Wait()
	return err
}

// acceptAll accepts until inner fails for good. A lack of descriptors passes, so
// it is waited for.
func (l *Listener) acceptAll() {
	for {
		conn, err := l.inner.Accept()
		if err == nil {
			l.admit(conn)
			continue
		}
		var passing interface{ Temporary() bool }
		if !errors.As(err, &passing) || !passing.Temporary() {
			l.stop(err)
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-l.done.Done():
			return
		}
	}
}

func (l *Listener) admit(conn net.Conn) {
	select {
	case l.pending <- struct{}{}:
	default:
		l.count.overflow.Add(1)
		_ = conn.Close()
		return
	}
	l.work.Go(func() {
		free := sync.OnceFunc(func() { <-l.pending })
		defer free()
		defer l.rescue(conn)
		client, err := l.read(conn)
		if err != nil {
			free() // before the client sees its connection closed, and comes again
			l.count.refused.Add(1)
			l.cfg.Logger.Debug("connection refused", "remote", conn.RemoteAddr().String(), "err", err)
			_ = conn.Close()
			return
		}
		select {
		case l.ready <- client:
		case <-l.done.Done():
			_ = client.Close()
		}
	})
}

// rescue is deferred: a panic costs its connection and nothing else.
func (l *Listener) rescue(conn net.Conn) {
	if failure := recover(); failure != nil {
		l.count.refused.Add(1)
		_ = l.cfg.Panicked(failure)
		_ = conn.Close()
	}
}

// read takes the header off conn, if there has to be one.
func (l *Listener) read(conn net.Conn) (net.Conn, error) {
	if !l.cfg.Trusted(addressOf(conn.RemoteAddr())) {
		l.count.direct.Add(1)
		return conn, nil
	}
	stop := context.AfterFunc(l.done, func() { _ = conn.Close() })
	defer stop()
	if err := conn.SetReadDeadline(time.Now().Add(l.cfg.Timeout)); err != nil {
		return nil, err
	}
	header, err := Read(conn)
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	l.count.accepted.Add(1)
	return &Conn{Conn: conn, header: header}, nil
}

// Read reads one header from r and not a byte more.
func Read(r io.Reader) (Header, error) {
	data := make([]byte, minV1, 256)
	have := 0
	for {
		n, err := r.Read(data[have:])
		have += n
		// What came is judged before the failure, and before more is waited for: the
		// protocol of a client that is no load balancer is wrong from its first byte.
		header, _, want, problem := Parse(data[:have])
		switch {
		case problem != nil:
			return Header{}, problem
		case want == 0:
			return header, nil
		case err == io.EOF:
			return Header{}, fmt.Errorf("read PROXY header: %w", io.ErrUnexpectedEOF)
		case err != nil:
			return Header{}, fmt.Errorf("read PROXY header: %w", err)
		}
		if have == len(data) {
			data = append(data, make([]byte, want)...)
		}
	}
}

// addressOf returns the IP address in addr, or the zero Addr.
func addressOf(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	parsed, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Addr{}
	}
	return parsed.Addr().Unmap()
}
