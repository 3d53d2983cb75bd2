package hedge

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// step is by how much of itself the estimate moves at most with one sample. At
	// the 95th percentile of exponentially distributed latencies it makes a standard
	// deviation of about 9 %.
	step = 0.05
	// enough is the number of samples before the estimate says anything.
	enough = 200
)

// Quantile estimates a quantile of recent latencies from a stream of them, in
// eight bytes: each sample above the estimate moves it up, each below moves it
// down, by steps whose sizes are such that it rests where the right part of the
// samples lies below (Robbins and Monro, 1951, on the logarithm of the latency).
// It follows a change within some hundred samples upwards, some thousand
// downwards. It is safe for concurrent use and takes no lock; a sample that comes
// at the same moment as another may be lost.
type Quantile struct {
	up, down float32
	state    atomic.Uint64 // the estimate in microseconds, and how many samples up to enough
}

// NewQuantile returns an estimator of quantile q, between 0 and 1.
func NewQuantile(q float64) *Quantile {
	q = min(max(q, 0.01), 0.99)
	return &Quantile{up: float32(math.Exp(step * q)), down: float32(math.Exp(-step * (1 - q)))}
}

// Observe adds a latency. It allocates nothing.
func (q *Quantile) Observe(latency time.Duration) {
	sample := max(1, float32(latency)/float32(time.Microsecond))
	old := q.state.Load()
	estimate, n := math.Float32frombits(uint32(old>>32)), uint32(old)
	switch {
	case n == 0:
		estimate = sample
	case sample > estimate && n < enough:
		estimate = min(sample, estimate*q.up*q.up) // from wherever the first one was
	case sample > estimate:
		estimate *= q.up
	default:
		estimate = max(1, estimate*q.down)
	}
	q.state.CompareAndSwap(old, uint64(math.Float32bits(estimate))<<32|uint64(min(n+1, enough)))
}

// Value returns the estimate, and false while there were too few samples for one.
func (q *Quantile) Value() (time.Duration, bool) {
	state := q.state.Load()
	if uint32(state) < enough {
		return 0, false
	}
	return time.Duration(math.Float32frombits(uint32(state>>32)) * float32(time.Microsecond)), true
}
