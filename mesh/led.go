package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// sentinelWait is how long the end of a connection is kept from the client
	// for those of its connections that only watch to come back first.
	sentinelWait = 20 * time.Millisecond
	// firstPatience is how long the leader may take for a handshake, twice that
	// each time it did not.
	firstPatience = 300 * time.Millisecond
)

// led is the part of an Upstream that follows the leader of a service.
type led struct {
	cfg   UpstreamConfig
	state *upstreamState
	log   switches
	count ledCounters
	// want wakes the seeker.
	want chan struct{}
	// group holds the goroutines that let clients go.
	group sync.WaitGroup

	mu sync.Mutex
	leadership
	// changed is closed when the leader or the refusal changes.
	changed chan struct{}
	// refusal is why waiting does not help, and refused counts how often one came.
	refusal error
	refused int
	links   map[*link]struct{}
	held    map[*link]struct{}
	// farewells are under way, by the address of the instance.
	farewells map[string]*farewell
	// rejected counts, by address, how often an instance was found and then did
	// not lead.
	rejected map[string]int
}

type ledCounters struct {
	accepted, held, released, expired, overflow, repeated, probes, superseded, switches atomic.Uint64
}

func newLed(cfg UpstreamConfig, state *upstreamState) *led {
	return &led{
		cfg: cfg, state: state,
		want: make(chan struct{}, 1), changed: make(chan struct{}),
		links: make(map[*link]struct{}), held: make(map[*link]struct{}),
		farewells: make(map[string]*farewell), rejected: make(map[string]int),
	}
}

// run keeps the leader known until ctx ends.
func (d *led) run(ctx context.Context) {
	var parts sync.WaitGroup
	parts.Go(func() { d.seek(ctx) })
	parts.Go(func() { d.watchCatalog(ctx) })
	parts.Go(func() { d.watchSilence(ctx) })
	parts.Wait()
	d.mu.Lock()
	d.drop()
	d.broadcast()
	d.mu.Unlock()
}

// broadcast tells everybody who waits. The caller holds mu.
func (d *led) broadcast() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// carryLed is carry for a service that has a leader.
func (u *Upstream) carryLed(dialling, carrying context.Context, local net.Conn) {
	d := u.led
	d.count.accepted.Add(1)
	l := &link{led: d, local: local, since: time.Now(), proto: u.cfg.Protocol, finished: make(chan struct{})}
	stop := context.AfterFunc(dialling, func() { _ = local.SetReadDeadline(time.Unix(1, 0)) })
	err := l.greet()
	if stop(); err != nil {
		reset(local)
		return
	}
	if l.sentinel() {
		d.sentinelBack()
	}
	conn, err := d.join(dialling, l)
	if errors.Is(err, io.EOF) {
		reset(local) // the client has left
		return
	}
	if dialling.Err() == nil {
		u.state.set(err)
	}
	if err != nil {
		u.cfg.Logger.Warn("upstream connection refused", "destination", u.cfg.Service, "err", err)
		reset(local)
		return
	}
	defer d.leave(l)
	u.live.Add(1)
	defer u.live.Add(-1)
	u.state.established(conn)
	if u.cfg.IdleTimeout > 0 {
		defer watchIdle(conn, u.cfg.IdleTimeout)()
	}
	if err := Splice(carrying, clientEnd{l}, &leaderEnd{Conn: conn, link: l}); err != nil {
		u.cfg.Logger.Debug("upstream connection ended", "destination", u.cfg.Service, "err", err)
	}
}

// join holds l until it has a connection to the leader. io.EOF means that the
// client has left meanwhile.
func (d *led) join(ctx context.Context, l *link) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, max(d.cfg.Hold, firstPatience))
	defer cancel()
	ctx, stop := l.guard(ctx)
	defer stop()
	patience := firstPatience
	for {
		leader, err := d.await(ctx, l)
		if err != nil {
			return nil, d.expire(ctx, l, err)
		}
		conn, err := d.reach(ctx, l, leader, patience)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, d.expire(ctx, l, err) // nothing that the instance has done
		}
		if errors.Is(err, ErrDenied) {
			d.unhold(l)
			return nil, err
		}
		if errors.Is(err, ErrTimeout) {
			patience *= 2
		}
		d.reject(leader, err)
		d.count.repeated.Add(1)
	}
}

// expire puts into words why l was not served.
func (d *led) expire(ctx context.Context, l *link, err error) error {
	d.unhold(l)
	if cause := context.Cause(ctx); errors.Is(cause, io.EOF) {
		return io.EOF
	} else if cause != nil && !errors.Is(cause, context.Canceled) {
		d.count.expired.Add(1)
	}
	if ctx.Err() == nil {
		return err
	}
	if last := d.state.load(); last != nil {
		return last
	}
	return fmt.Errorf("mesh: dial %s: %w: none accepted in time: %w", d.cfg.Service, ErrNoInstance, withTimeout(ctx.Err()))
}

// await waits until somebody leads.
func (d *led) await(ctx context.Context, l *link) (*leader, error) {
	d.mu.Lock()
	seen := d.refused
	for {
		if d.leader != nil {
			found := d.leader
			d.mu.Unlock()
			return found, nil
		}
		if _, ok := d.held[l]; !ok {
			if len(d.held) >= d.cfg.MaxHeld {
				d.mu.Unlock()
				d.count.overflow.Add(1)
				return nil, fmt.Errorf("mesh: dial %s: %w: %d connections wait already", d.cfg.Service, ErrNoInstance, d.cfg.MaxHeld)
			}
			d.held[l] = struct{}{}
			d.count.held.Add(1)
		}
		changed := d.changed
		d.mu.Unlock()
		select {
		case d.want <- struct{}{}:
		default:
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		d.mu.Lock()
		if d.refused != seen {
			err := d.refusal
			d.mu.Unlock()
			return nil, err
		}
	}
}

func (d *led) unhold(l *link) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.held, l)
}

// reach connects l to the leader and lets it hear the greeting.
func (d *led) reach(ctx context.Context, l *link, to *leader, patience time.Duration) (*Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-to.gone:
			cancel()
		case <-done:
		}
	}()
	d.mu.Lock()
	conn := to.spare
	to.spare = nil
	d.mu.Unlock()
	if conn == nil {
		dial, stop := context.WithTimeout(ctx, patience)
		var err error
		conn, err = d.cfg.Dialer.DialInstance(dial, to.instance)
		stop()
		if err != nil {
			return nil, err
		}
	}
	if !d.enter(l, conn, to) {
		conn.Cut("another instance leads")
		return nil, errNotLeading
	}
	epoch, err := l.introduce(ctx, conn)
	if err == nil {
		err = d.admit(l, to, epoch)
	}
	if err != nil {
		conn.Cut("it does not lead")
		d.leave(l)
		return nil, err
	}
	return conn, nil
}

// enter registers the connection that l is about to use, so that whatever ends
// its epoch finds it.
func (d *led) enter(l *link, conn *Conn, to *leader) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.leader != to {
		return false
	}
	l.place, l.remote, l.held = place{to.instance.Address, to.epoch}, conn, true
	d.links[l] = struct{}{}
	return true
}

// admit releases l to the leader, which says of itself that it leads in epoch.
func (d *led) admit(l *link, to *leader, epoch int64) error {
	if epoch > 0 {
		d.learn(to.instance.Address, epoch, "the instance says so")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stale(epoch) || d.leader != to {
		return errNotLeading
	}
	if epoch > 0 {
		to.epoch, l.place.epoch = epoch, epoch
	}
	l.held = false
	if _, waited := d.held[l]; waited {
		delete(d.held, l)
		d.count.released.Add(1)
	}
	delete(d.rejected, to.instance.Address)
	d.log.released(to.instance.Address, to.epoch, time.Now())
	return nil
}

// leave forgets l.
func (d *led) leave(l *link) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.links, l)
}

// reject takes the lead from an instance that was tried in vain.
func (d *led) reject(from *leader, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state.set(d.nobody(err))
	if d.leader != from {
		return
	}
	d.rejected[from.instance.Address]++
	d.drop()
}

// nobody is the error of a wait.
func (d *led) nobody(last error) error {
	if errors.Is(last, ErrNotReady) || errors.Is(last, ErrNoInstance) {
		return fmt.Errorf("mesh: dial %s: %w", d.cfg.Service, last)
	}
	return fmt.Errorf("mesh: dial %s: %w accepts: %w", d.cfg.Service, ErrNoInstance, last)
}
