package mesh

import (
	"context"
	"crypto/x509"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

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

// Held returns how many connections wait for an instance at this moment, and how
// long the oldest of them has waited. It counts for services with epochs only.
func (u *Upstream) Held() (int, time.Duration) {
	if u.led == nil {
		return 0, 0
	}
	u.led.mu.Lock()
	defer u.led.mu.Unlock()
	oldest := time.Duration(0)
	for l := range u.led.held {
		oldest = max(oldest, time.Since(l.since))
	}
	return len(u.led.held), oldest
}

// Report describes the Upstream at this moment.
func (u *Upstream) Report() UpstreamReport {
	held, oldest := u.Held()
	r := UpstreamReport{
		Service: u.cfg.Service, Address: u.net.Addr().String(), Live: int(u.live.Load()),
		Held: held, OldestHeldMS: float64(oldest.Microseconds()) / 1000, Switches: []Switch{},
	}
	if err := u.Err(); err != nil {
		r.Error = err.Error()
	}
	if d := u.led; d != nil {
		r.Switches, r.Counters = d.log.copy(), d.count.load()
		d.mu.Lock()
		defer d.mu.Unlock()
		r.Epoch = d.epoch
		if d.leader != nil {
			r.Leader, r.Node = d.leader.instance.Address, d.leader.instance.Node
		}
	}
	return r
}

func (c *ledCounters) load() UpstreamCounters {
	return UpstreamCounters{
		Accepted: c.accepted.Load(), Held: c.held.Load(), Released: c.released.Load(), Expired: c.expired.Load(),
		Overflow: c.overflow.Load(), Repeated: c.repeated.Load(), Probes: c.probes.Load(),
		Superseded: c.superseded.Load(), Switches: c.switches.Load(),
	}
}
