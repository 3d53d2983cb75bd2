// Package rate counts what happened in the last minute and how long it took.
//
// A Window is made of slots of five seconds. A slot is replaced as a whole when
// its time comes around again, by one compare-and-swap, so nobody who counts waits
// for another and nothing has to be cleared. What was counted into a slot in the
// moment of its replacement is a minute old.
//
// The package is told the time and starts nothing.
package rate

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// width is the time that one slot covers, and slots how many there are.
	width = 5 * time.Second
	slots = 12

	// Times below fine are counted in steps of a quarter of it, those above in
	// quarters of each power of two, in microseconds. The last bucket begins at 59 s.
	fine    = 64
	steps   = 4
	octaves = 20
	buckets = steps + octaves*steps
)

// Window is what happened to one thing in the last minute. The zero Window is
// ready for use, needs 120 bytes until something happens, and is safe for
// concurrent use.
type Window struct {
	// since is when the first slot began, in slots since 1970; 0 is never.
	since atomic.Int64
	ring  [slots]atomic.Pointer[slot]
}

// slot is what happened in five seconds.
type slot struct {
	// number is the time of the slot, in slots since 1970.
	number int64
	failed atomic.Uint32
	counts [buckets]atomic.Uint32
}

// Observe counts one that ended at now, how long it took, and whether it failed.
// It takes no lock, and allocates once in five seconds at most.
func (w *Window) Observe(now time.Time, took time.Duration, failed bool) {
	s := w.slot(now.UnixNano() / int64(width))
	if s == nil {
		return
	}
	s.counts[bucketOf(took)].Add(1)
	if failed {
		s.failed.Add(1)
	}
}

// slot returns the slot of that number, or nil if a newer one has its place.
func (w *Window) slot(number int64) *slot {
	place := &w.ring[number%slots]
	found := place.Load()
	if found != nil && found.number == number {
		return found
	}
	if w.since.Load() == 0 {
		w.since.CompareAndSwap(0, number)
	}
	fresh := &slot{number: number}
	for found == nil || found.number < number {
		if place.CompareAndSwap(found, fresh) {
			return fresh
		}
		found = place.Load()
	}
	if found.number == number {
		return found
	}
	return nil
}

// Summary is what a Window holds at one moment.
type Summary struct {
	// Count is how many there were in the last minute, and Failed those of them that
	// failed. The minute is between 55 and 60 seconds long.
	Count, Failed uint64
	// PerSecond is Count by that time, or by the time since the first if that is
	// less, but a second at least.
	PerSecond float64
	// P50 and P99 are the times within which half, and 99 of 100, ended; within an
	// eighth of the true value. 0 if there were none.
	P50, P99 time.Duration
}

// Summary returns what happened in the minute before now. It waits for nobody, and
// those who count do not wait for it.
func (w *Window) Summary(now time.Time) Summary {
	var sum Summary
	since := w.since.Load()
	if since == 0 {
		return sum
	}
	var counts [buckets]uint64
	last := now.UnixNano() / int64(width)
	for i := range w.ring {
		s := w.ring[i].Load()
		if s == nil || s.number <= last-slots || s.number > last {
			continue
		}
		sum.Failed += uint64(s.failed.Load())
		for b := range s.counts {
			n := uint64(s.counts[b].Load())
			counts[b] += n
			sum.Count += n
		}
	}
	if sum.Count == 0 {
		return Summary{}
	}
	begin := max(since, last-slots+1) * int64(width)
	sum.PerSecond = float64(sum.Count) / max(1, time.Duration(now.UnixNano()-begin).Seconds())
	sum.P50, sum.P99 = quantile(&counts, sum.Count, 50), quantile(&counts, sum.Count, 99)
	return sum
}

// quantile returns the time within which so many of 100 ended: the middle of the
// bucket of the last of them.
func quantile(counts *[buckets]uint64, total, percent uint64) time.Duration {
	rank := (total*percent + 99) / 100
	seen := uint64(0)
	for b, n := range counts {
		seen += n
		if seen >= rank {
			return (lowest(b) + lowest(b+1)) / 2
		}
	}
	return lowest(buckets)
}

// bucketOf returns the bucket of a time.
func bucketOf(took time.Duration) int {
	us := uint64(max(0, took.Microseconds()))
	if us < fine {
		return int(us / (fine / steps))
	}
	octave := bits.Len64(us) - 1
	quarter := int(us>>(octave-2)) & (steps - 1)
	return min(steps+(octave-bits.Len(fine)+1)*steps+quarter, buckets-1)
}

// lowest returns the least time of a bucket.
func lowest(bucket int) time.Duration {
	if bucket < steps {
		return time.Duration(bucket) * fine / steps * time.Microsecond
	}
	octave, quarter := (bucket-steps)/steps, (bucket-steps)%steps
	return time.Duration(fine/steps*(steps+quarter)<<octave) * time.Microsecond
}
