package blog

import "context"

// ErrPending is errPending, for tests.
var ErrPending = errPending //nolint:gochecknoglobals // an error value

// Repeat is what runs each operation, for tests.
func (s *Store) Repeat(ctx context.Context, operation func(context.Context) error) error {
	return s.repeat(ctx, operation)
}

// Committed is what Add reads back, for tests.
func (s *Store) Committed(ctx context.Context, id string) (Entry, error) { return s.committed(ctx, id) }
