package tracing

import (
	"log/slog"
	"sync"
	"time"
)

// reportEvery is how often a collector that cannot be reached is told of.
const reportEvery = time.Minute

// reporter logs what goes wrong with traces: a line at once, then one in reportEvery
// at most. It is safe for concurrent use.
type reporter struct {
	logger *slog.Logger
	now    func() time.Time

	mu       sync.Mutex
	last     time.Time
	withheld int
}

// Handle logs err, or counts it for the next line.
func (r *reporter) Handle(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if !r.last.IsZero() && now.Sub(r.last) < reportEvery {
		r.withheld++
		return
	}
	r.logger.Warn("traces are not delivered", "err", err, "withheld", r.withheld)
	r.last, r.withheld = now, 0
}
