package h1

import (
	"io"
	"sync"
)

const (
	// smallSize is what an idle connection holds, in bytes; largeSize is taken while
	// more comes than fits in it.
	smallSize = 4 << 10
	largeSize = 64 << 10
	// maxPiece is read and sent on at once, in bytes: with a chunk's size and end it
	// fits in a large buffer, and so leaves in one write.
	maxPiece = largeSize - 32
)

// Pool keeps buffers between their uses by Readers and Writers. Safe for
// concurrent use.
type Pool struct{ small, large sync.Pool }

type buffer struct{ b []byte }

// NewPool returns an empty Pool.
func NewPool() *Pool {
	return &Pool{
		small: sync.Pool{New: func() any { return &buffer{make([]byte, smallSize)} }},
		large: sync.Pool{New: func() any { return &buffer{make([]byte, largeSize)} }},
	}
}

// NewReader returns a Reader of src that takes its buffers from the pool.
func (p *Pool) NewReader(src io.Reader, l Limits) *Reader {
	return &Reader{src: src, pool: p, limits: l.orDefaults()}
}

// NewWriter returns a Writer to dst that takes its buffers from the pool.
func (p *Pool) NewWriter(dst io.Writer) *Writer { return &Writer{dst: dst, pool: p} }

// get returns a buffer of at least size bytes.
func (p *Pool) get(size int) *buffer {
	switch {
	case size <= smallSize:
		return p.small.Get().(*buffer)
	case size <= largeSize:
		return p.large.Get().(*buffer)
	}
	return &buffer{make([]byte, size)}
}

func (p *Pool) put(b *buffer) {
	switch {
	case b == nil:
	case len(b.b) == smallSize:
		p.small.Put(b)
	case len(b.b) == largeSize:
		p.large.Put(b)
	}
}
