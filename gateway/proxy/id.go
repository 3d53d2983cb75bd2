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

func (p *Proxy) newID() string { return p.ids.next() }

const idDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

func (i *ids) next() string {
	var b [26]byte
	copy(b[:], i.prefix)
	n := i.last.Add(1)
	for at := len(b) - 1; at >= 16; at-- {
		b[at] = idDigits[n&31]
		n >>= 5
	}
	return string(b[:])
}
