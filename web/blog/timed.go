package blog

import (
	"context"
	"sync/atomic"
	"time"
)

type spentKey struct{}

// Timed returns a context whose operations add up how long their commands took, for
// Spent.
func Timed(ctx context.Context) context.Context {
	return context.WithValue(ctx, spentKey{}, &atomic.Int64{})
}

// Spent is how long the commands of ctx, which Timed made, and of its children took:
// from sending one to its answer, by all ways to the database. Commands that ran at
// the same time count each. It is 0 for any other context.
func Spent(ctx context.Context) time.Duration {
	if spent, ok := ctx.Value(spentKey{}).(*atomic.Int64); ok {
		return time.Duration(spent.Load())
	}
	return 0
}

func noteSpent(ctx context.Context, took time.Duration) {
	if spent, ok := ctx.Value(spentKey{}).(*atomic.Int64); ok {
		spent.Add(int64(took))
	}
}
