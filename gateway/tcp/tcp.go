// Package tcp carries TCP connections from a listener to an instance, by port or
// by the server name in the client's TLS hello, which is not decrypted.
//
// Each connection is in a Table from its accept to its end, so that it can be cut
// when its instance turns unhealthy or the routing table drops it. One goroutine
// per direction carries the bytes; Serve waits for all of them.
package tcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/proxyproto"
)

// Why a connection ended, beside ErrMalformed, ErrIdle, ErrCut, ErrClient and ErrUpstream,
// for errors.Is.
var (
	// ErrNoRoute means that nothing takes a connection; a Router returns it.
	ErrNoRoute = errors.New("no route")
	// ErrOverflow means that an instance has as many connections as its Target
	// allows.
	ErrOverflow = errors.New("too many connections")
	// ErrDial means that the target could not be reached. What Target.Dial returned
	// is in the same error.
	ErrDial = errors.New("dial")
)

// Call is a connection that looks for its target.
type Call struct {
	Client, Server netip.AddrPort
	// ServerName is the name in the client's hello, in lower case; "" if there is
	// none, and on a listener that routes by port.
	ServerName string
}

// Target is where a connection is to go.
type Target struct {
	// Service is the name in the catalog, Instance one registration of it, as the
	// gateway tells them apart.
	Service, Instance string
	// Dial connects to the instance. It must end with its context.
	Dial func(ctx context.Context) (net.Conn, error)
	// SendProxy asks for a PROXY header in front of the client's bytes.
	SendProxy bool
	// Limit bounds the connections to the instance at once; 0 is no bound.
	Limit int
	// Current reports whether the target would still be chosen. It is asked once,
	// when the connection has been registered: a CutWhere before that moment could
	// not see it. nil is yes.
	Current func() bool
}

// Router finds the target of a call; ErrNoRoute says that there is none. It must
// end with its context and is called by many goroutines.
type Router func(ctx context.Context, call Call) (Target, error)

// The defaults of Config.
const (
	DefaultHelloTimeout = 5 * time.Second
	DefaultDialTimeout  = 10 * time.Second
	DefaultMaxConns     = 10000
	// DefaultHalfClosed is for what Config.Idle leaves without an end.
	DefaultHalfClosed = 5 * time.Minute
)

// Config is what a Server is made of.
type Config struct {
	Route Router
	// ServerName makes the server read the client's hello before it routes.
	ServerName bool
	// Fallback, if not nil, gets the connections of a ServerName server for which
	// there is no route, hello included. It owns them.
	Fallback func(net.Conn)
	// HelloTimeout bounds the wait for a hello, DialTimeout that for the target. 0
	// is the default.
	HelloTimeout, DialTimeout time.Duration
	// Idle ends a connection on which nothing moved in either direction, at most a
	// quarter later; 0 is never. Once one direction has ended, the other has as long
	// between two bytes that its peer takes, and with 0 DefaultHalfClosed.
	Idle time.Duration
	// Drain is how long live connections may go on after the end of Serve's context.
	Drain time.Duration
	// MaxConns bounds the live connections of the server; 0 is DefaultMaxConns.
	MaxConns int
	// Table registers the connections; nil is one of the server's own.
	Table *Table
	// Ended, if not nil, is told of each connection that has ended, with nil or what
	// ended it. It must not block.
	Ended func(Info, error)
	// Panicked counts and logs a panic of one connection, which is over with it, and
	// says in an error what it was; nil logs alone.
	Panicked func(failure any) error
	Logger   *slog.Logger
}

// Server carries the connections of one listener.
type Server struct {
	cfg     Config
	buffers *buffers
	live    atomic.Int64
}

// New returns a Server. cfg.Route must not be nil.
func New(cfg Config) *Server {
	if cfg.HelloTimeout <= 0 {
		cfg.HelloTimeout = DefaultHelloTimeout
	}
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = DefaultDialTimeout
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = DefaultMaxConns
	}
	if cfg.Table == nil {
		cfg.Table = NewTable(nil)
	}
	if cfg.Ended == nil {
		cfg.Ended = func(Info, error) {}
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
	return &Server{cfg: cfg, buffers: newBuffers()}
}

// Table returns the table of the server's connections.
func (s *Server) Table() *Table { return s.cfg.Table }

// Serve carries the connections of listener, which it owns, until ctx ends. Then
// it stops accepting, returns as soon as the last connection has ended, and cuts
// what is left after Config.Drain. It returns nil after a stop and the error if
// the listener fails.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	// Connections outlive ctx by the drain.
	life, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	var conns sync.WaitGroup
	err := s.accept(ctx, listener, func(conn net.Conn) {
		conns.Go(func() {
			defer s.live.Add(-1)
			defer s.rescue(func(error) { reset(conn) })
			s.carry(life, conn)
		})
	})
	_ = listener.Close()
	finished := make(chan struct{})
	go func() { conns.Wait(); close(finished) }()
	timer := time.NewTimer(s.cfg.Drain)
	defer timer.Stop()
	select {
	case <-finished:
	case <-timer.C:
		cut(fmt.Errorf("%w: %w", ErrCut, ErrDrained))
		<-finished
	}
	return err
}

// accept calls take for each connection that is within the limit.
func (s *Server) accept(ctx context.Context, listener net.Listener, take func(net.Conn)) error {
	for {
		conn, err := listener.Accept()
		switch {
		case err == nil && s.live.Add(1) > int64(s.cfg.MaxConns):
			s.live.Add(-1)
			s.cfg.Table.count.accepted.Add(1)
			s.cfg.Table.count.refused.Add(1)
			reset(conn)
		case err == nil:
			take(conn)
		case ctx.Err() != nil:
			return nil
		case isPassing(err):
			// Most often there are no descriptors left, until some connection ends.
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return nil
			}
		default:
			return fmt.Errorf("accept on %s: %w", listener.Addr(), err)
		}
	}
}

func isPassing(err error) bool {
	var passing interface{ Temporary() bool }
	return errors.As(err, &passing) && passing.Temporary()
}

// carry is the whole life of one connection.
func (s *Server) carry(ctx context.Context, client net.Conn) {
	c := s.cfg.Table.add(ctx, client)
	// CutWhere resets by itself; this is for the end of the drain.
	interrupted := make(chan struct{})
	stop := context.AfterFunc(c.ctx, func() {
		defer close(interrupted)
		defer s.rescue(func(error) {})
		c.reset()
	})
	err := s.guarded(c)
	if !stop() {
		<-interrupted
		err = context.Cause(c.ctx)
	}
	info := s.cfg.Table.remove(c)
	if errors.Is(err, errPassedOn) {
		return
	}
	if err != nil {
		reset(client)
	}
	switch {
	case errors.Is(err, ErrCut):
		s.cfg.Table.count.cut.Add(1)
	case errors.Is(err, ErrIdle):
		s.cfg.Table.count.idle.Add(1)
	}
	s.cfg.Logger.Debug("connection ended", "remote", info.Client.String(), "service", info.Service, "instance", info.Instance, "err", err)
	s.cfg.Ended(info, err)
}

// guarded is work whose panic ends the connection, both sides of it, and nothing else.
func (s *Server) guarded(c *connection) (err error) {
	defer s.rescue(func(fault error) { err = fault; c.reset() })
	return s.work(c)
}

// rescue is deferred by each goroutine of a connection: a panic becomes an error,
// for end.
func (s *Server) rescue(end func(error)) {
	if failure := recover(); failure != nil {
		end(s.cfg.Panicked(failure))
	}
}

// errPassedOn says that the fallback has the connection.
var errPassedOn = errors.New("passed on")

// work finds the target, connects, and carries the bytes.
func (s *Server) work(c *connection) error {
	count := &s.cfg.Table.count
	call := Call{Client: c.info.Client, Server: c.info.Server}
	var hello []byte
	if s.cfg.ServerName {
		var err error
		call.ServerName, hello, err = readHello(c.client, time.Now().Add(s.cfg.HelloTimeout))
		if err != nil {
			if s.cfg.Fallback != nil && errors.Is(err, ErrMalformed) {
				return s.passOn(c, hello)
			}
			count.malformed.Add(1)
			return err
		}
		c.named(call.ServerName)
	}
	ctx, cancel := context.WithTimeout(c.ctx, s.cfg.DialTimeout)
	defer cancel()
	target, err := s.cfg.Route(ctx, call)
	if err != nil {
		if errors.Is(err, ErrNoRoute) && s.cfg.Fallback != nil && s.cfg.ServerName {
			return s.passOn(c, hello)
		}
		count.noRoute.Add(1)
		return err
	}
	if !c.assign(target) {
		count.overflow.Add(1)
		return fmt.Errorf("%w: %s has %d", ErrOverflow, target.Instance, target.Limit)
	}
	if target.Current != nil && !target.Current() {
		return fmt.Errorf("%w: its target went while it was chosen", ErrCut)
	}
	upstream, err := target.Dial(ctx)
	if err != nil {
		count.dialFailed.Add(1)
		return fmt.Errorf("%w %s: %w", ErrDial, target.Instance, err)
	}
	return s.join(c, upstream, target, hello)
}

// join sends what comes before the client's next byte, and carries the rest.
func (s *Server) join(c *connection, upstream net.Conn, target Target, hello []byte) error {
	if err := c.join(upstream); err != nil {
		return err
	}
	var first []byte
	if target.SendProxy {
		first = proxyproto.Append(first, c.info.Client, c.info.Server)
	}
	if first = append(first, hello...); len(first) > 0 {
		if err := writeWithin(upstream, first, s.cfg.DialTimeout); err != nil {
			reset(upstream)
			return fmt.Errorf("%w: %w", ErrUpstream, err)
		}
		c.in.Add(uint64(len(hello)))
	}
	r := relay{client: c.client, upstream: upstream, up: &c.in, down: &c.out, idle: s.cfg.Idle, buffers: s.buffers, rescue: s.rescue}
	return r.run()
}

// writeWithin writes, and gives up with the connection after the timeout.
func writeWithin(conn net.Conn, data []byte, timeout time.Duration) error {
	if err := conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := conn.Write(data); err != nil {
		return err
	}
	return conn.SetWriteDeadline(time.Time{})
}
