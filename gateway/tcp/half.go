package tcp

import (
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// direction carries one direction. Whichever ends first watches the other.
func (r *relay) direction(dst, src net.Conn, count *atomic.Uint64) {
	r.pump(dst, src, count)
	if r.ended.Add(1) == 2 {
		close(r.both)
		return
	}
	r.watch()
}

// watch ends the connection if the direction that is left neither ends nor moves
// anything. Its own look at the clock is not enough: a write to a peer that takes
// nothing has no end.
func (r *relay) watch() {
	bound := r.idle
	if bound <= 0 {
		bound = DefaultHalfClosed
	}
	look := time.NewTicker(max(bound/4, time.Millisecond))
	defer look.Stop()
	at, since := r.moved(), time.Now()
	for {
		select {
		case <-r.both:
			return
		case <-look.C:
		}
		if now := r.moved(); now != at {
			at, since = now, time.Now()
		} else if time.Since(since) >= bound {
			r.fail(fmt.Errorf("%w: %s after one side had ended", ErrIdle, bound))
			<-r.both
			return
		}
	}
}

// moved is a number that changes while bytes move, those that the kernel moves
// and has not counted yet included.
func (r *relay) moved() uint64 {
	return r.up.Load() + r.down.Load() + acked(r.client) + acked(r.upstream)
}
