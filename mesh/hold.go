package mesh

import (
	"context"
	"errors"
	"time"
)

// holdPause is how often a held connection asks again where the resolver does
// not say when it knows more.
const holdPause = 100 * time.Millisecond

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
