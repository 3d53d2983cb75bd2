// Package budget bounds the attempts that a route makes beyond the first: retries
// and hedges. Without it, an upstream that is slow from too much load gets more.
//
// The rule is Finagle's: a part of the requests, and a constant rate so that a
// route with few requests may retry at all, both over a window of time.
package budget

import (
	"sync/atomic"
	"time"
)

const (
	// parts is how many slots make up the window. One more is looked at for what was
	// spent, so that no window at all, wherever it begins, has more than it may.
	parts = 10
	// slots is a power of two, and enough for both.
	slots = 16
)

// Config is how much may be spent. Zero fields have the defaults that are named.
type Config struct {
	// Ratio is the part of the requests of the window, 0.2; negative is nothing.
	Ratio float64
	// PerSecond comes on top, 10 for each second of the window; negative is nothing.
	PerSecond float64
	// Window is 10 s.
	Window time.Duration
}

// Budget counts a route's requests and what was spent on further attempts. In a
// window that ends with a further attempt, those attempts are never more than
// Ratio * requests + PerSecond * Window. It is safe for concurrent use and takes
// no lock; at the limit, concurrent takers may be refused although one of them
// would have fitted.
type Budget struct {
	ratio    float64
	reserve  float64
	slot     int64 // nanoseconds
	requests ring
	spent    ring
}

// New returns a budget of which nothing is spent.
func New(cfg Config) *Budget {
	if cfg.Ratio == 0 {
		cfg.Ratio = 0.2
	}
	if cfg.PerSecond == 0 {
		cfg.PerSecond = 10
	}
	if cfg.Window <= 0 {
		cfg.Window = 10 * time.Second
	}
	return &Budget{
		ratio: max(0, cfg.Ratio), reserve: max(0, cfg.PerSecond) * cfg.Window.Seconds(),
		slot: max(1, int64(cfg.Window)/parts),
	}
}

// Request counts a request in: once for each that a client made, whatever becomes
// of it.
func (b *Budget) Request(now time.Time) { b.requests.add(b.epoch(now)) }

// Take spends one further attempt, and reports false if there is none to spend.
func (b *Budget) Take(now time.Time) bool {
	epoch := b.epoch(now)
	// It is spent before it is looked whether it may be: of several takers at once,
	// the last sees them all.
	if !b.spent.add(epoch) {
		return false
	}
	if b.left(epoch) >= 0 {
		return true
	}
	b.spent.undo(epoch)
	return false
}

// Left returns how many further attempts may be made at now.
func (b *Budget) Left(now time.Time) int { return max(0, int(b.left(b.epoch(now)))) }

func (b *Budget) left(epoch uint32) float64 {
	// The slack keeps 0.2 * 5 from being less than 1.
	const slack = 1e-9
	may := b.ratio*float64(b.requests.sum(epoch, parts)) + b.reserve
	return may - float64(b.spent.sum(epoch, parts+1)) + slack
}

func (b *Budget) epoch(now time.Time) uint32 { return uint32(now.UnixNano() / b.slot) }

// ring counts by slots of time. A word is the slot's epoch and its count.
type ring [slots]atomic.Uint64

// add counts one, and reports false if the clock is so far behind that its slot has
// been used for a later time.
func (r *ring) add(epoch uint32) bool {
	word := &r[epoch%slots]
	for {
		old := word.Load()
		next := uint64(epoch)<<32 | 1
		switch ahead := int32(uint32(old>>32) - epoch); {
		case ahead > 0 && old != 0:
			return false
		case ahead == 0:
			next = old + 1
		}
		if word.CompareAndSwap(old, next) {
			return true
		}
	}
}

// undo takes back one that add counted.
func (r *ring) undo(epoch uint32) {
	word := &r[epoch%slots]
	for {
		old := word.Load()
		if uint32(old>>32) != epoch || uint32(old) == 0 || word.CompareAndSwap(old, old-1) {
			return
		}
	}
}

// sum counts the slot of epoch and those before it, n in all, and any that another
// clock, a little ahead, has begun.
func (r *ring) sum(epoch uint32, n int32) uint64 {
	total := uint64(0)
	for i := range r {
		old := r[i].Load()
		if behind := int32(epoch - uint32(old>>32)); behind < n && behind > -slots/2 {
			total += uint64(uint32(old))
		}
	}
	return total
}
