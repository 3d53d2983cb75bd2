package proxy

import (
	"crypto/rand"
	"sync/atomic"
)

// ids makes request IDs: a random part per process, so that two gateways never
// make the same, and a number. They are unique, not secret.
type ids struct {
	prefix string
	last   atomic.Uint64
}

func newIDs() *ids { return &ids{prefix: rand.Text()[:16]} }

func (p *Proxy) newID() string { return p.ids.next(1) }

const (
	idDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	idLength = 26
	// idsAhead is how many IDs a connection takes at a time once it has had a request.
	idsAhead = 8
)

// next returns n new IDs, at most idsAhead, one behind the other.
func (i *ids) next(n int) string {
	var room [idsAhead * idLength]byte
	last := i.last.Add(uint64(n))
	for k := range n {
		b := room[k*idLength:][:idLength]
		copy(b, i.prefix)
		number := last - uint64(n-1-k)
		for at := len(b) - 1; at >= 16; at-- {
			b[at] = idDigits[number&31]
			number >>= 5
		}
	}
	return string(room[:n*idLength])
}

// nextID returns the ID of the next request. One allocation is enough for several.
func (s *session) nextID() string {
	if s.ids == "" {
		n := 1
		if s.x != nil {
			n = idsAhead
		}
		s.ids = s.p.ids.next(n)
	}
	id := s.ids[:idLength]
	s.ids = s.ids[idLength:]
	return id
}
