package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"sluice/mesh"
)

// acceptPause is the pause after a failure to accept, for example for want of a
// free descriptor.
const acceptPause = 50 * time.Millisecond

// PeerConfig says which member is behind a listener.
type PeerConfig struct {
	// Node is the node of the member.
	Node string
	// Address is the member's name in the replica set, "host:port" on this
	// node's loopback, where the own mongod looks for it.
	Address string
	// Locator finds what members offer each other.
	Locator *Locator
	Dialer  *mesh.Dialer
	// Timeout bounds the way to the member; after it the own mongod's connection
	// is reset.
	Timeout time.Duration
	// Hold is how long the end of a connection is kept from the own mongod, unless
	// Reset comes before; 0 is not at all. A mongod that loses its source of
	// operations looks for another at once, and if it finds none sleeps for a whole
	// second (MongoDB log ID 21090). Right after the death of a primary there is
	// none yet.
	Hold   time.Duration
	Logger *slog.Logger
}

// Peer is another member, as the own mongod sees it: a plain listener on
// loopback whose connections end at that member's Door.
type Peer struct {
	cfg    PeerConfig
	socket net.Listener
	last   atomic.Pointer[string]

	mu sync.Mutex
	// lost says why the member is known not to answer; nil while it may.
	lost error
	// carried is cancelled, and replaced, when the connections are reset.
	carried context.Context
	reset   context.CancelCauseFunc
	// pending resets them when they have been held; nil while nothing is held.
	pending *time.Timer
}

// ListenPeer binds the listener. From then on connections are taken, and handled
// once Run runs.
func ListenPeer(cfg PeerConfig) (*Peer, error) {
	socket, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for member %s: %w", cfg.Node, err)
	}
	p := &Peer{cfg: cfg, socket: socket}
	p.carried, p.reset = context.WithCancelCause(context.Background())
	return p, nil
}

// Lose takes note that the member does not answer: new connections are refused at
// once, because mongod takes a refusal as news and waits out silence, and the old
// ones are reset when they have been held.
func (p *Peer) Lose(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost != nil {
		return
	}
	p.lost = fmt.Errorf("the agent of %s is lost: %s", p.cfg.Node, reason)
	lost := p.lost
	if p.cfg.Hold <= 0 {
		p.reset(lost)
		p.carried, p.reset = context.WithCancelCause(context.Background())
		return
	}
	// Nothing new is carried while the member is lost, so what is carried now may
	// stay where it is: if the member comes back in time, nothing happened.
	p.pending = time.AfterFunc(p.cfg.Hold, func() { p.Reset(lost.Error()) })
}

// Reset resets every connection now, and those that are held.
func (p *Peer) Reset(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep()
	p.reset(errors.New(reason))
	p.carried, p.reset = context.WithCancelCause(context.Background())
}

// Find takes back what Lose said.
func (p *Peer) Find() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = nil
	p.keep()
}

// keep takes back a reset that is pending.
func (p *Peer) keep() {
	if p.pending != nil {
		p.pending.Stop()
		p.pending = nil
	}
}

// way returns the context that connections live in now, or why there are none.
func (p *Peer) way() (context.Context, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.carried, p.lost
}

// Addr returns where the peer listens.
func (p *Peer) Addr() net.Addr { return p.socket.Addr() }

// Run carries connections until ctx ends, and resets them then.
func (p *Peer) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = p.socket.Close() })
	defer stop()
	var group sync.WaitGroup
	defer group.Wait()
	for {
		conn, err := p.socket.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				reset(conn)
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			p.cfg.Logger.Warn("cannot accept from mongod", "member", p.cfg.Node, "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
		default:
			group.Go(func() { p.carry(ctx, conn) })
		}
	}
}

// carry takes one connection of the own mongod to the member. If there is no
// way, it is reset at once: to mongod a refusal is news and silence costs a
// time-out.
func (p *Peer) carry(ctx context.Context, local net.Conn) {
	carried, err := p.way()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(carried, func() { cancel(context.Cause(carried)) })()
	var remote *mesh.Conn
	if err == nil {
		remote, err = p.dial(ctx)
	}
	p.note(ctx, err)
	if err != nil {
		reset(local)
		return
	}
	if p.cfg.Hold <= 0 {
		_ = mesh.Splice(ctx, local, remote)
		return
	}
	_ = mesh.Splice(ctx, local, &held{Conn: remote, limit: p.cfg.Hold, released: carried.Done(), ended: make(chan struct{})})
}

func (p *Peer) dial(ctx context.Context) (*mesh.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	instance, err := p.cfg.Locator.Instance(ctx, p.cfg.Node)
	if err != nil {
		return nil, err
	}
	return p.cfg.Dialer.DialInstance(ctx, instance)
}

// note logs the first of equal failures and the recovery.
func (p *Peer) note(ctx context.Context, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	before := p.last.Swap(&text)
	switch {
	case ctx.Err() != nil || (before != nil && *before == text):
	case err != nil:
		p.cfg.Logger.Warn("member cannot be reached", "member", p.cfg.Node, "err", err)
	case before != nil:
		p.cfg.Logger.Info("member can be reached again", "member", p.cfg.Node)
	}
}
