package main

import "runtime/debug"

// Memory that the garbage collector may let pile up beside what is in use, in percent
// of that: its default, and for a large table. A table is the same from one collection to
// the next, and does not make garbage; there is no need for the room to grow with it.
const (
	smallTablePercent = 100
	largeTablePercent = 60
	largeTable        = 2_000 // routes, about 2 MB
)

// headroom fits the garbage collector to the routing table. It belongs to the one
// goroutine that publishes tables.
type headroom struct {
	percent int
	// set is debug.SetGCPercent, which stops the world for a moment.
	set func(percent int) int
}

func newHeadroom() *headroom {
	return &headroom{percent: smallTablePercent, set: debug.SetGCPercent}
}

// fit is told how many routes there are.
func (h *headroom) fit(routes int) {
	percent := smallTablePercent
	if routes >= largeTable {
		percent = largeTablePercent
	}
	if percent != h.percent {
		h.percent = percent
		h.set(percent)
	}
}
