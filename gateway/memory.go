package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// How much garbage may pile up between two collections. The collector's own rule is as
// much as there is in use: for a gateway with few routes that is so little that new
// connections cost a tenth more, and for one with thousands of connections or routes,
// which stay and make no garbage, it is room that nobody needs.
const (
	leastRoom   = 28 << 20 // bytes
	roomPercent = 60       // of what is in use, where that is more
	// mostPercent is for the first moments, in which next to nothing is in use.
	mostPercent = 1_000
)

// roomFor returns the percent, as debug.SetGCPercent takes it, for a process in which
// the collector has found so many bytes in use.
func roomFor(used uint64) int {
	if used == 0 {
		return mostPercent
	}
	return int(min(max(leastRoom*100/used, roomPercent), mostPercent))
}

// headroom fits the garbage collector to what is in use, after each collection.
type headroom struct {
	used func() uint64
	// set is debug.SetGCPercent, which stops the world for a moment.
	set func(percent int) int
	// leave is true where the operator has decided by the runtime's own variable.
	leave bool
}

func newHeadroom() headroom {
	return headroom{used: bytesInUse, set: debug.SetGCPercent, leave: os.Getenv("GOGC") != ""}
}

// run returns when ctx ends, and leaves the collector as it was.
func (h headroom) run(ctx context.Context) error {
	if h.leave {
		<-ctx.Done()
		return nil
	}
	collected := make(chan struct{}, 1)
	percent := roomFor(h.used())
	before := h.set(percent)
	defer func() { h.set(before) }()
	for {
		tellOfCollection(collected)
		select {
		case <-ctx.Done():
			return nil
		case <-collected:
		}
		if want := roomFor(h.used()); apart(want, percent) {
			percent = want
			h.set(percent)
		}
	}
}

// apart reports whether two settings differ by an eighth: less is not worth the stop.
func apart(a, b int) bool { return max(a, b)-min(a, b) > b/8 }

// tellOfCollection sends to c, which has room for one, after the next collection: the
// runtime tells of it by nothing but by what it collects.
func tellOfCollection(c chan struct{}) {
	type garbage struct{ c chan struct{} }
	runtime.AddCleanup(&garbage{c}, func(c chan struct{}) {
		select {
		case c <- struct{}{}:
		default: // the last one was not seen yet
		}
	}, c)
}

// bytesInUse is that of which the collector takes its percent: what it found alive in the
// heap, stacks and globals.
func bytesInUse() uint64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	var sum uint64
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			sum += s.Value.Uint64()
		}
	}
	return sum
}
