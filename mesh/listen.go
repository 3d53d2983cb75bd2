package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of ListenConfig.
const (
	DefaultHandshakeTimeout = 5 * time.Second
	DefaultMaxHandshakes    = 512
	DefaultDrainTimeout     = 3 * time.Second
	DefaultEvictionGrace    = time.Second
)

// Bounds of the pause after a failure to accept, for example for want of a free
// descriptor.
const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// ListenConfig is what a Listener serves by.
type ListenConfig struct {
	// Credentials is asked once per handshake. Required.
	Credentials CredentialSource
	// Authorizer judges every peer. Its policy also judges the live connections,
	// again on every change. Required.
	Authorizer *Authorizer
	// Table receives the live connections. Required.
	Table *Table
	// Logger receives refusals and cuts; nil is silent.
	Logger *slog.Logger
	// HandshakeTimeout bounds one handshake, authorization included; default 5 s.
	HandshakeTimeout time.Duration
	// MaxHandshakes bounds the handshakes in flight; default 512. When so many
	// are, the oldest that has had its grace makes room for the next; until one
	// has, further connections wait in the kernel.
	MaxHandshakes int
	// EvictionGrace is how long a handshake may take before it may have to make
	// room, twice that once the client has spoken; default 1 s.
	EvictionGrace time.Duration
	// DrainTimeout is how long Run waits for live connections once it stops,
	// before it cuts them; default 3 s, below 0 is not at all. An http.Server closes its
	// listener at the beginning of a Shutdown, so that this goes on beside the drain of
	// the requests, and must not be shorter.
	DrainTimeout time.Duration
	// Now tells the time by which certificates are judged; nil is time.Now.
	Now func() time.Time
}

// Listener hands out connections whose peers are verified and authorized, and
// cuts them when their authorization ends. It is a net.Listener.
type Listener struct {
	cfg    ListenConfig
	net    net.Listener
	gate   *gate
	ready  chan *Conn
	closed chan struct{}

	stop       sync.Once
	running    atomic.Bool
	handshakes sync.WaitGroup
	live       sync.WaitGroup
}

// Listen binds address, a "host:port". Nothing is accepted before Run.
func Listen(address string, cfg ListenConfig) (*Listener, error) {
	sockets := net.ListenConfig{KeepAliveConfig: keepAlive()}
	socket, err := sockets.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("mesh: listen on %s: %w", address, err)
	}
	l, err := NewListener(socket, cfg)
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return l, nil
}

// NewListener is Listen on a socket that is already bound. The Listener owns the
// socket unless there is an error.
func NewListener(socket net.Listener, cfg ListenConfig) (*Listener, error) {
	if cfg.Credentials == nil || cfg.Authorizer == nil || cfg.Table == nil {
		return nil, errors.New("mesh: listen: credentials, authorizer and table are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.HandshakeTimeout <= 0 {
		cfg.HandshakeTimeout = DefaultHandshakeTimeout
	}
	if cfg.MaxHandshakes <= 0 {
		cfg.MaxHandshakes = DefaultMaxHandshakes
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = DefaultDrainTimeout
	}
	if cfg.EvictionGrace <= 0 {
		cfg.EvictionGrace = DefaultEvictionGrace
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Listener{
		cfg: cfg, net: socket,
		gate:   newGate(cfg.MaxHandshakes, cfg.EvictionGrace),
		ready:  make(chan *Conn, cfg.MaxHandshakes),
		closed: make(chan struct{}),
	}, nil
}

// Addr returns the bound address.
func (l *Listener) Addr() net.Addr { return l.net.Addr() }

// Close stops accepting and makes Run drain and return. It does not wait.
func (l *Listener) Close() error {
	err := net.ErrClosed
	l.stop.Do(func() {
		close(l.closed)
		err = l.net.Close()
	})
	return err
}

// Accept returns the next connection, always a *Conn. It fails with
// net.ErrClosed once the Listener is closed or Run has been told to stop.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		select {
		case conn := <-l.ready:
			if !conn.closed.Load() {
				return conn, nil
			}
		case <-l.closed:
			return nil, fmt.Errorf("mesh: accept on %s: %w", l.net.Addr(), net.ErrClosed)
		}
	}
}

// Run accepts, shakes hands, authorizes and judges live connections again on each
// change of the policy, until ctx ends or Close is called. Then it waits for the
// live connections, which it goes on judging, cuts those that remain after
// DrainTimeout, and returns nil. It may be called once.
func (l *Listener) Run(ctx context.Context) error {
	if !l.running.CompareAndSwap(false, true) {
		return errors.New("mesh: run listener: it has been run before")
	}
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()
	judging, stopJudging := context.WithCancel(context.WithoutCancel(ctx))
	defer stopJudging()

	var accepting, judge sync.WaitGroup
	judge.Go(func() { l.judgeLive(judging) })
	accepting.Go(func() { l.acceptAll(working) })

	select {
	case <-ctx.Done():
	case <-l.closed:
	}
	_ = l.Close()
	stopWorking()
	accepting.Wait()
	l.handshakes.Wait()
	l.drain()
	stopJudging()
	judge.Wait()
	return nil
}

// acceptAll starts a handshake for each connection, as the gate allows.
func (l *Listener) acceptAll(ctx context.Context) {
	pause := acceptPauseMin
	for ctx.Err() == nil {
		raw, err := l.net.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			l.cfg.Table.count.acceptErrors.Add(1)
			l.cfg.Logger.Warn("cannot accept connections", "service", l.cfg.Authorizer.Service(), "err", err, "pause", pause)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, acceptPauseMax)
			continue
		}
		pause = acceptPauseMin
		h := &handshake{raw: raw}
		victim, err := l.gate.enter(ctx, h)
		if err != nil {
			reset(raw)
			return
		}
		if victim != nil {
			l.cfg.Table.count.evicted.Add(1)
		}
		l.handshakes.Go(func() { l.serve(ctx, h) })
	}
}

// drain waits for the live connections, then cuts them.
func (l *Listener) drain() {
	l.cutUnaccepted()
	idle := make(chan struct{})
	go func() {
		l.live.Wait()
		close(idle)
	}()
	if l.cfg.DrainTimeout > 0 {
		timer := time.NewTimer(l.cfg.DrainTimeout)
		defer timer.Stop()
		select {
		case <-idle:
			return
		case <-timer.C:
		}
	}
	for _, conn := range l.cfg.Table.conns(l) {
		conn.Cut("shutting down")
	}
	<-idle
}

// cutUnaccepted cuts the connections that nobody has come for.
func (l *Listener) cutUnaccepted() {
	for {
		select {
		case conn := <-l.ready:
			conn.Cut("shutting down")
		default:
			return
		}
	}
}

// judgeLive judges the live connections by each policy that arrives.
func (l *Listener) judgeLive(ctx context.Context) {
	for {
		// The channel first: a policy that arrives in between closes it.
		changed := l.cfg.Authorizer.changed()
		if policy, ok := l.cfg.Authorizer.policy(); ok {
			l.cfg.Table.enforce(l, policy.Set, l.cfg.Logger)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
