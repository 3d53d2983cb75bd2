package mesh

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of UpstreamConfig.
const (
	DefaultHold           = 10 * time.Second
	DefaultMaxConnections = 4096
)

// holdPause is how often a held connection asks again where the resolver does
// not say when it knows more.
const holdPause = 100 * time.Millisecond

// UpstreamConfig is what an Upstream carries where.
type UpstreamConfig struct {
	// Service is where accepted connections go.
	Service string
	// Address is the local "host:port"; the host must be a loopback address:
	// whoever reaches it speaks with our identity.
	Address string
	// Dialer makes the connections. Required.
	Dialer *Dialer
	// Hold is how long an accepted connection waits while there is no instance,
	// or no identity yet; default 10 s, below 0 is not at all.
	Hold time.Duration
	// IdleTimeout cuts a connection on which no byte has moved for that long;
	// 0 is never.
	IdleTimeout time.Duration
	// DrainTimeout is how long Run waits for live connections once it stops;
	// default 3 s, below 0 is not at all.
	DrainTimeout time.Duration
	// MaxConnections bounds the connections at one time, held ones included;
	// further ones wait in the kernel. Default 4096.
	MaxConnections int
	// Prefer puts instances into the order in which they are tried; nil is the
	// Dialer's order. It may drop some.
	Prefer func([]Instance) []Instance
	// Logger receives failures; nil is silent.
	Logger *slog.Logger
}

// Upstream is a local plaintext listener whose connections leave over the mesh.
type Upstream struct {
	cfg     UpstreamConfig
	net     net.Listener
	running atomic.Bool
	places  chan struct{}
	state   upstreamState
}

// ListenUpstream binds the local address. Nothing is accepted before Run.
func ListenUpstream(cfg UpstreamConfig) (*Upstream, error) {
	if cfg.Dialer == nil || cfg.Service == "" {
		return nil, errors.New("mesh: listen for upstream: service and dialer are required")
	}
	local, err := netip.ParseAddrPort(cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("mesh: listen for upstream %s: address %q: %w; give it as 127.0.0.1:PORT", cfg.Service, cfg.Address, err)
	}
	if !local.Addr().IsLoopback() {
		return nil, fmt.Errorf("mesh: listen for upstream %s: %s is not a loopback address, and whoever reaches it would speak with our identity; use 127.0.0.1:%d",
			cfg.Service, local, local.Port())
	}
	if cfg.Hold == 0 {
		cfg.Hold = DefaultHold
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = DefaultDrainTimeout
	}
	if cfg.MaxConnections <= 0 {
		cfg.MaxConnections = DefaultMaxConnections
	}
	if cfg.Prefer == nil {
		cfg.Prefer = cfg.Dialer.cfg.Prefer
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	socket, err := net.Listen("tcp", local.String())
	if err != nil {
		return nil, fmt.Errorf("mesh: listen for upstream %s: %w", cfg.Service, err)
	}
	return &Upstream{
		cfg: cfg, net: socket,
		places: make(chan struct{}, cfg.MaxConnections),
		state:  upstreamState{changed: make(chan struct{})},
	}, nil
}

// Addr returns the bound local address.
func (u *Upstream) Addr() net.Addr { return u.net.Addr() }

// Run carries connections until ctx ends. Then it waits for the live ones, resets
// those that remain after DrainTimeout, and returns nil. It may be called once.
func (u *Upstream) Run(ctx context.Context) error {
	if !u.running.CompareAndSwap(false, true) {
		return errors.New("mesh: run upstream: it has been run before")
	}
	carrying, stopCarrying := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopCarrying(nil)
	var accepting, carriers sync.WaitGroup
	accepting.Go(func() { u.watchPolicy(ctx) })
	accepting.Go(func() {
		u.acceptAll(ctx, func(local net.Conn) {
			carriers.Go(func() {
				defer func() { <-u.places }()
				u.carry(ctx, carrying, local)
			})
		})
	})
	<-ctx.Done()
	_ = u.net.Close()
	accepting.Wait()
	drained := make(chan struct{})
	go func() {
		carriers.Wait()
		close(drained)
	}()
	timer := time.NewTimer(max(u.cfg.DrainTimeout, 0))
	defer timer.Stop()
	select {
	case <-drained:
	case <-timer.C:
		stopCarrying(errors.New("mesh: upstream is shutting down"))
		<-drained
	}
	return nil
}

func (u *Upstream) acceptAll(ctx context.Context, carry func(net.Conn)) {
	pause := acceptPauseMin
	for {
		select {
		case u.places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		local, err := u.net.Accept()
		if err == nil {
			pause = acceptPauseMin
			carry(local)
			continue
		}
		<-u.places
		if errors.Is(err, net.ErrClosed) {
			return
		}
		u.cfg.Logger.Warn("cannot accept connections", "upstream", u.cfg.Service, "err", err, "pause", pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, acceptPauseMax)
	}
}

// carry dials for one local connection until dialling ends, and copies until
// carrying ends.
func (u *Upstream) carry(dialling, carrying context.Context, local net.Conn) {
	conn, err := u.hold(dialling)
	if dialling.Err() == nil {
		u.state.set(err)
	}
	if err != nil {
		u.cfg.Logger.Warn("upstream connection refused", "destination", u.cfg.Service, "err", err)
		reset(local)
		return
	}
	u.state.established(conn)
	if u.cfg.IdleTimeout > 0 {
		defer watchIdle(conn, u.cfg.IdleTimeout)()
	}
	if err := Splice(carrying, local, conn); err != nil {
		u.cfg.Logger.Debug("upstream connection ended", "destination", u.cfg.Service, "err", err)
	}
}

// hold dials, and dials again while there is nobody to dial.
func (u *Upstream) hold(ctx context.Context) (*Conn, error) {
	until := time.Now().Add(max(u.cfg.Hold, 0))
	for {
		var changed <-chan struct{}
		if r, ok := u.cfg.Dialer.cfg.Resolver.(resolutions); ok {
			changed = r.Changed(u.cfg.Service)
		}
		conn, err := u.cfg.Dialer.dial(ctx, u.cfg.Service, u.cfg.Prefer)
		if err == nil || !errors.Is(err, ErrNoInstance) && !errors.Is(err, ErrNotReady) {
			return conn, err
		}
		u.state.set(err)
		left := time.Until(until)
		if left <= 0 {
			return nil, err
		}
		timer := time.NewTimer(min(left, holdPause))
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

// watchPolicy keeps Err true while nobody dials: a deny shows at once, and goes
// at once when it is taken back.
func (u *Upstream) watchPolicy(ctx context.Context) {
	for {
		changed := u.cfg.Dialer.changed()
		if own, err := u.cfg.Dialer.credentials(); err == nil {
			if _, known := u.cfg.Dialer.policy(); known {
				u.state.judged(u.cfg.Dialer.refused(own, u.cfg.Service))
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Err returns nil, or why the newest dial failed, or that our own intentions
// would refuse the next one. The next success clears it, and so does a change of
// intentions that takes a deny back.
func (u *Upstream) Err() error { return u.state.load() }

// Changed returns a channel that is closed when Err changes.
func (u *Upstream) Changed() <-chan struct{} {
	u.state.mu.Lock()
	defer u.state.mu.Unlock()
	return u.state.changed
}

// Last describes the newest established connection, which may have ended since,
// and its peer's leaf. false means that there has been none.
func (u *Upstream) Last() (ConnectionInfo, *x509.Certificate, bool) {
	conn := u.state.last.Load()
	if conn == nil {
		return ConnectionInfo{}, nil, false
	}
	return conn.Info(), conn.PeerCertificate(), true
}

// upstreamState is what an Upstream tells about itself.
type upstreamState struct {
	last atomic.Pointer[Conn]

	mu      sync.Mutex
	err     error
	changed chan struct{}
}

func (s *upstreamState) load() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *upstreamState) established(conn *Conn) { s.last.Store(conn) }

func (s *upstreamState) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setLocked(err)
}

// judged takes the verdict of our own intentions: nil clears a deny, but nothing
// else.
func (s *upstreamState) judged(verdict error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if verdict != nil || errors.Is(s.err, ErrDenied) {
		s.setLocked(verdict)
	}
}

func (s *upstreamState) setLocked(err error) {
	same := (err == nil) == (s.err == nil) && (err == nil || err.Error() == s.err.Error())
	s.err = err
	if !same {
		close(s.changed)
		s.changed = make(chan struct{})
	}
}
