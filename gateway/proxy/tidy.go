package proxy

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
)

const (
	// tidyAfter is after how many connections that became idle memory is given back.
	tidyAfter = 1000
	// calm is how many may still become idle in a second by then.
	calm = 50
)

// tidy gives the memory of many connections that have become idle back to the
// system: their buffers, and the stacks that served them. Nothing else would do it
// soon, because a gateway with idle connections allocates nothing. It waits until no
// more of them do, so that it is done once.
func (p *Proxy) tidy(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for last, done := int64(0), int64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := p.rested.Load()
		if now-done >= tidyAfter && now-last <= calm {
			runtime.GC() // buffers in pools outlive one collection
			debug.FreeOSMemory()
			done = now
		}
		last = now
	}
}
