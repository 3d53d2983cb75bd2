package mesh

import (
	"context"
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
	DefaultMaxHeld        = 1024
)

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
	// or no identity yet; default 10 s, below 0 is not at all. With Epoch it is
	// 300 ms at least, because even the first connection has to look for a leader.
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
	// MaxHeld bounds the connections that wait for an instance at one time;
	// further ones are reset. Default 1024.
	MaxHeld int
	// Epoch returns the epoch in which an instance leads, from its registration;
	// 0 is not known. It makes the service one that has one leader at a time: all
	// connections go to the instance of the highest epoch that was ever known, and
	// those to others are reset. nil is a service whose instances are equal.
	Epoch func(Instance) int64
	// Candidates returns further instances to try while no instance of the
	// resolver accepts; it must not block. Used with Epoch only; may be nil.
	Candidates func() []Instance
	// Protocol is what may be known about the bytes; used with Epoch only. nil
	// carries them unseen.
	Protocol *Protocol
	// Logger receives failures; nil is silent.
	Logger *slog.Logger
}

// Upstream is a local plaintext listener whose connections leave over the mesh.
type Upstream struct {
	cfg     UpstreamConfig
	net     net.Listener
	running atomic.Bool
	live    atomic.Int64
	places  chan struct{}
	state   upstreamState
	// led is nil where all instances are equal.
	led *led
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
	if cfg.MaxHeld <= 0 {
		cfg.MaxHeld = DefaultMaxHeld
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
	u := &Upstream{
		cfg: cfg, net: socket,
		places: make(chan struct{}, cfg.MaxConnections),
		state:  upstreamState{changed: make(chan struct{})},
	}
	if cfg.Epoch != nil {
		u.led = newLed(cfg, &u.state)
	}
	return u, nil
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
	if u.led != nil {
		accepting.Go(func() { u.led.run(ctx) })
	}
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
	if u.led != nil {
		u.led.group.Wait()
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
	if u.led != nil {
		u.carryLed(dialling, carrying, local)
		return
	}
	conn, err := u.hold(dialling)
	if dialling.Err() == nil {
		u.state.set(err)
	}
	if err != nil {
		u.cfg.Logger.Warn("upstream connection refused", "destination", u.cfg.Service, "err", err)
		reset(local)
		return
	}
	u.live.Add(1)
	defer u.live.Add(-1)
	u.state.established(conn)
	if u.cfg.IdleTimeout > 0 {
		defer watchIdle(conn, u.cfg.IdleTimeout)()
	}
	if err := Splice(carrying, local, conn); err != nil {
		u.cfg.Logger.Debug("upstream connection ended", "destination", u.cfg.Service, "err", err)
	}
}
