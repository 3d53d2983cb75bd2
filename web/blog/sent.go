package blog

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"sluice/mesh"
)

// unsentError is the failure of an operation of which no command ever left, or none
// that changes what it is to change: it was not done and will not be.
type unsentError struct{ error }

func (e *unsentError) Unwrap() error { return e.error }

func (*unsentError) outcome() Outcome { return Refused }

type sentKey struct{}

// tracked returns a context whose commands note that they were sent.
func tracked(ctx context.Context) (context.Context, *atomic.Bool) {
	sent := &atomic.Bool{}
	return context.WithValue(ctx, sentKey{}, sent), sent
}

func noteSent(ctx context.Context) {
	if sent, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
		sent.Store(true)
	}
}

// held returns a context that ends when the way has held connections for as long as
// it does, nothing was sent, and there is still nobody to send it to. Whoever waits
// is told then, and not at the end of the operation's own bound; and at once when the
// process is about to leave. stop frees it.
func (s *Store) held(ctx context.Context, sent *atomic.Bool) (bounded context.Context, stop func()) {
	bounded, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(mesh.DefaultHold, func() {
		if !sent.Load() && s.nobody() {
			cancel()
		}
	})
	staying := context.AfterFunc(s.leaving, func() {
		for !sent.Load() {
			changed := s.cfg.Way.Changed()
			if s.nobody() {
				cancel()
			}
			select {
			case <-changed:
			case <-bounded.Done():
				return
			}
		}
	})
	return bounded, func() { timer.Stop(); staying(); cancel() }
}

// nobody reports whether there is nobody to send anything to.
func (s *Store) nobody() bool { return errors.Is(s.cfg.Way.Err(), mesh.ErrNoInstance) }

// EndHolds ends the wait of every operation that was not sent because there is nobody
// to send it to, now and from now on: it was not done, and says so while there is
// time to.
func (s *Store) EndHolds() { s.leave() }
