package consul

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstRetry = 100 * time.Millisecond
	// lastRetry caps the wait between attempts. The agent is nearly always on the same machine,
	// so asking often costs little, and everything that follows Consul is back
	// within this time of the agent.
	lastRetry = 2 * time.Second
)

// backoff returns how long to wait after the given number of failures in a row:
// doubling from first, never above last, the upper half of it random so that the
// watches of a node do not return as one herd. random is in [0, 1).
func backoff(failures int, first, last time.Duration, random float64) time.Duration {
	wait := first
	for range failures - 1 {
		if wait >= last {
			break
		}
		wait *= 2
	}
	wait = min(wait, last)
	return wait/2 + time.Duration(random*float64(wait/2))
}

func retryIn(failures int) time.Duration {
	return backoff(failures, firstRetry, lastRetry, rand.Float64())
}

// sleep waits for d or until ctx ends, and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// limiter keeps a loop from spinning: burst rounds at once, then one per
// interval. It belongs to one goroutine.
type limiter struct {
	interval time.Duration
	burst    int
	next     time.Time
}

// delay returns how long this round has to wait, and counts it.
func (l *limiter) delay(now time.Time) time.Duration {
	if earliest := now.Add(-time.Duration(l.burst) * l.interval); l.next.Before(earliest) {
		l.next = earliest
	}
	l.next = l.next.Add(l.interval)
	return max(0, l.next.Sub(now))
}
