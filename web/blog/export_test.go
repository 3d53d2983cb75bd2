package blog

import "context"

// ErrPending is errPending, for tests.
var ErrPending = errPending //nolint:gochecknoglobals // an error value

// Committed is what Add reads back, for tests.
func (s *Store) Committed(ctx context.Context, id string) (Entry, error) { return s.committed(ctx, id) }
