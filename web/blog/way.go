package blog

import (
	"context"
	"errors"

	"sluice/mesh"
)

// Way is the way to the database: the local listener whose connections leave
// over the mesh. *mesh.Upstream is one.
type Way interface {
	// Err returns nil, or why the newest connection could not be made.
	Err() error
	// Changed returns a channel that is closed when Err changes.
	Changed() <-chan struct{}
}

// blocked returns the denial that stands in the way now, or nil. known is what
// Err said when it was asked: a watch must not take it for news.
//
// What Err says is from the last dial or the last change of intentions. Nobody
// tells us when another service's mind changes, and a dial that was under way
// during a change reports late, so a denial is questioned before it is believed:
// while it stands, that costs no connection.
func (s *Store) blocked(ctx context.Context) (known, err error) {
	known = s.cfg.Way.Err()
	denied := denial(known)
	if denied == nil {
		return known, nil
	}
	if s.cfg.Probe == nil {
		return known, denied
	}
	if again := denial(s.cfg.Probe(ctx)); again != nil {
		return known, again
	}
	return known, nil // allowed again, or out of reach: the driver will find out
}

// watch returns a context that ends, with the denial as its cause, as soon as
// the way is denied. stop waits for the watch to end.
func (s *Store) watch(ctx context.Context, known error) (watched context.Context, stop func()) {
	watched, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			changed := s.cfg.Way.Changed()
			if err := s.cfg.Way.Err(); err != known && denial(err) != nil {
				cancel(err)
				return
			}
			select {
			case <-changed:
			case <-watched.Done():
				return
			}
		}
	}()
	return watched, func() { cancel(nil); <-done }
}

// denial returns the refusal by an intention in err, or nil.
func denial(err error) *mesh.DeniedError {
	var denied *mesh.DeniedError
	if errors.As(err, &denied) {
		return denied
	}
	return nil
}
