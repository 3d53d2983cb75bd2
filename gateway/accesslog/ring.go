package accesslog

import "sync/atomic"

// ring is a bounded queue of many writers and one reader, without locks: a writer
// takes a ticket, and each slot has a number that says whose turn it is. Ticket t
// may fill its slot when the number is t, and the reader may empty it when it is
// t+1.
type ring struct {
	slots []paddedSlot
	mask  uint64
	_     [64]byte // the two counters are written by different processors
	tail  atomic.Uint64
	_     [56]byte
	head  uint64 // of the reader alone
}

type paddedSlot struct {
	turn atomic.Uint64
	slot
}

// newRing returns a ring of at least size slots; size is rounded up to a power of
// two.
func newRing(size int) *ring {
	n := 2
	for n < size {
		n *= 2
	}
	r := &ring{slots: make([]paddedSlot, n), mask: uint64(n - 1)}
	for i := range r.slots {
		r.slots[i].turn.Store(uint64(i))
	}
	return r
}

// put fills a slot and returns its ticket, or false if all are full. It never
// waits for the reader.
func (r *ring) put(e *Entry, headers []string) (ticket uint64, ok bool) {
	ticket = r.tail.Load()
	for {
		s := &r.slots[ticket&r.mask]
		switch turn := s.turn.Load(); {
		case turn == ticket:
			if r.tail.CompareAndSwap(ticket, ticket+1) {
				s.fill(e, headers)
				s.turn.Store(ticket + 1)
				return ticket, true
			}
			ticket = r.tail.Load()
		case turn < ticket:
			return 0, false
		default:
			ticket = r.tail.Load()
		}
	}
}

// take calls use with the oldest entry and frees its slot, or returns false if
// there is none.
func (r *ring) take(use func(*slot)) bool {
	s := &r.slots[r.head&r.mask]
	if s.turn.Load() != r.head+1 {
		return false
	}
	use(&s.slot)
	s.turn.Store(r.head + uint64(len(r.slots)))
	r.head++
	return true
}
