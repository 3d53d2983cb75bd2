package ledger

import (
	"math"
	"slices"
	"time"
)

// Gap is a stretch of time without an acknowledged write.
type Gap struct {
	// From and To are counted from the start of the run.
	From time.Duration `json:"from_ns"`
	To   time.Duration `json:"to_ns"`
	// Began and Ended are the same on the wall clock.
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
}

// Length is how long the gap is.
func (g Gap) Length() time.Duration { return g.To - g.From }

// Gaps returns every stretch between two acknowledged writes, with the one before
// the first and the one after the last, in the order of time. It is empty for a
// run of no length.
func (b Book) Gaps() []Gap {
	moments := []time.Duration{0}
	for _, w := range b.Writes {
		if w.Outcome == Acknowledged {
			moments = append(moments, w.At)
		}
	}
	moments = append(moments, b.Last)
	slices.Sort(moments)
	gaps := make([]Gap, 0, len(moments)-1)
	for i := 1; i < len(moments); i++ {
		if moments[i] == moments[i-1] {
			continue
		}
		gaps = append(gaps, Gap{
			From: moments[i-1], To: moments[i],
			Began: b.Header.Started.Add(moments[i-1]), Ended: b.Header.Started.Add(moments[i]),
		})
	}
	return gaps
}

// LongestGap returns the longest gap that touches the time from one moment of the
// wall clock to another; the zero Gap if none does.
func (b Book) LongestGap(from, to time.Time) Gap {
	var longest Gap
	for _, gap := range b.Gaps() {
		if !gap.Ended.Before(from) && !gap.Began.After(to) && gap.Length() > longest.Length() {
			longest = gap
		}
	}
	return longest
}

// longestGaps returns the n longest, longest first.
func longestGaps(gaps []Gap, n int) []Gap {
	sorted := slices.Clone(gaps)
	slices.SortStableFunc(sorted, func(x, y Gap) int { return int(y.Length() - x.Length()) })
	return sorted[:min(n, len(sorted))]
}

// Latencies are the times from the moment in which a write fell due to its
// acknowledgement, so that a write which had to wait for its turn counts in full.
type Latencies struct {
	Count     int           `json:"count"`
	P50       time.Duration `json:"p50_ns"`
	P90       time.Duration `json:"p90_ns"`
	P99       time.Duration `json:"p99_ns"`
	Longest   time.Duration `json:"longest_ns"`
	Histogram []Bucket      `json:"histogram"`
}

// Bucket counts what took longer than the bucket before it and UpTo at most.
type Bucket struct {
	UpTo  time.Duration `json:"up_to_ns"`
	Count int           `json:"count"`
}

// Latencies measures the acknowledged writes.
func (b Book) Latencies() Latencies {
	var all []time.Duration
	for _, w := range b.Writes {
		if w.Outcome == Acknowledged {
			all = append(all, w.At-min(w.Due, w.At))
		}
	}
	slices.Sort(all)
	l := Latencies{Count: len(all)}
	if len(all) == 0 {
		return l
	}
	l.P50, l.P90, l.P99, l.Longest = rank(all, 0.50), rank(all, 0.90), rank(all, 0.99), all[len(all)-1]
	for upTo := time.Millisecond; ; upTo *= 2 {
		below, _ := slices.BinarySearch(all, upTo+1)
		l.Histogram = append(l.Histogram, Bucket{UpTo: upTo, Count: below})
		all = all[below:]
		if len(all) == 0 {
			return l
		}
		if upTo > math.MaxInt64/4 {
			l.Histogram = append(l.Histogram, Bucket{UpTo: math.MaxInt64, Count: len(all)})
			return l
		}
	}
}

// rank is the value below or at which the part p of the sorted values lies.
func rank(sorted []time.Duration, p float64) time.Duration {
	return sorted[max(0, int(math.Ceil(p*float64(len(sorted))))-1)]
}
