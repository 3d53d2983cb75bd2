package lab

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// pollInterval is how often a condition is looked at. Everything that is waited
// for is local, so a look is cheap.
const pollInterval = 25 * time.Millisecond

// errNotYet is a condition's way to say that there is nothing to report but that
// it does not hold yet.
var errNotYet = errors.New("not yet")

// waitFor looks at a condition until it holds. At the deadline of ctx it returns
// what the condition said last, which is the reason people need.
func waitFor(ctx context.Context, what string, condition func(context.Context) error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	last := errNotYet
	for {
		if err := condition(ctx); err == nil {
			return nil
		} else if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w (last seen: %w)", what, context.Cause(ctx), last)
		case <-ticker.C:
		}
	}
}
