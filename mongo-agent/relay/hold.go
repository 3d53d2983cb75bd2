package relay

import (
	"context"
	"sync"
)

// hold keeps back what passes a door, in both directions, while it is on. Nothing
// is lost by it: what was read waits, and goes on when the hold is over.
type hold struct {
	mu sync.Mutex
	// over is closed when the hold ends; nil while there is none.
	over chan struct{}
}

// set turns the hold on or off.
func (h *hold) set(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case on && h.over == nil:
		h.over = make(chan struct{})
	case !on && h.over != nil:
		close(h.over)
		h.over = nil
	}
}

// wait returns when there is no hold, or ctx's error once ctx has ended.
func (h *hold) wait(ctx context.Context) error {
	for {
		h.mu.Lock()
		over := h.over
		h.mu.Unlock()
		if over == nil {
			return ctx.Err()
		}
		select {
		case <-over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
