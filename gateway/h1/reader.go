package h1

import (
	"bytes"
	"io"
)

// Reader reads the heads and bodies of one connection, one after the other. It is
// not for concurrent use.
//
// The order is: a head, its body with one of CopyBody, CopyBodyAs, Discard and Body,
// the next head. After any error the connection is of no use any more, except after
// one of a deadline that passed in Wait.
type Reader struct {
	src    io.Reader
	pool   *Pool
	limits Limits
	// response is true while what is read is from a server.
	response bool

	// buf[r:w] is what came and was not taken. The head that was read last is in old
	// if that is set, else in buf before keep, and stays there while the body is read.
	buf, old   *buffer
	r, w, keep int
	// full is true if the last read left no room.
	full bool
	// err came together with bytes.
	err error

	// lines are the ends of the lines of a head or trailer section that were found,
	// scanned is how far was looked, skipped the length of an empty line before the
	// head. All count from r.
	lines            []int
	scanned, skipped int

	seen    seen
	decoder decoder
	body    Body
}

// NewReader returns a Reader with a Pool of its own. Where there are many, use
// Pool.NewReader.
func NewReader(src io.Reader, l Limits) *Reader { return NewPool().NewReader(src, l) }

// Reset makes the Reader read from src. What is buffered is forgotten, the buffer
// is kept.
func (r *Reader) Reset(src io.Reader) {
	r.src, r.err, r.full = src, nil, false
	r.r, r.w, r.keep = 0, 0, 0
	r.decoder.reset(Framing{})
}

// Release gives the buffers back. What is buffered is forgotten, and so are the
// slices of heads. The Reader can be used again after Reset.
func (r *Reader) Release() {
	r.pool.put(r.buf)
	r.pool.put(r.old)
	r.buf, r.old = nil, nil
	r.seen, r.decoder, r.body = seen{}, decoder{}, Body{} // they would keep the buffers alive
	r.Reset(nil)
}

// Buffered returns how many bytes came that belong to nothing that was read.
func (r *Reader) Buffered() int { return r.w - r.r }

// Read returns the bytes that follow what was read, as they are: for a connection
// that has changed its protocol. It reads from the source only when nothing is
// buffered.
func (r *Reader) Read(p []byte) (int, error) {
	if r.r == r.w {
		if err := r.err; err != nil {
			r.err = nil
			return 0, err
		}
		return r.src.Read(p)
	}
	n := copy(p, r.buf.b[r.r:r.w])
	r.r += n
	return n, nil
}

// Wait blocks until at least one byte is buffered. It returns io.EOF if the peer
// has ended. It may be called before a head is read, so that waiting for a request
// and waiting for the rest of one can have different deadlines. The slices of the
// last head are invalid after it.
func (r *Reader) Wait() error {
	if r.r < r.w {
		return nil
	}
	r.begin()
	return r.fill()
}

// begin makes room for a head: that of the last one, and of a large buffer if what
// is in it fits in a small one, so that a connection which waits holds little.
func (r *Reader) begin() {
	r.keep, r.full = 0, false
	unread := r.w - r.r
	if r.buf != nil && len(r.buf.b) > smallSize && unread <= smallSize/2 {
		next := r.old
		if r.old = nil; next == nil || len(next.b) != smallSize {
			r.pool.put(next)
			next = r.pool.get(smallSize)
		}
		copy(next.b, r.buf.b[r.r:r.w])
		r.pool.put(r.buf)
		r.buf, r.r, r.w = next, 0, unread
	}
	r.pool.put(r.old)
	r.old = nil
	if unread == 0 {
		r.r, r.w = 0, 0
	}
}

// readHead reads until a whole head is buffered at r; lines has its line ends, the
// empty line's not among them, and scanned its length.
func (r *Reader) readHead() error {
	r.begin()
	r.lines, r.scanned, r.skipped = r.lines[:0], 0, 0
	for {
		done, err := r.scan()
		if done {
			return nil
		}
		// The start line is judged first even if it came alone, so that the verdict
		// does not depend on how the bytes were cut.
		if bad := r.checkStart(); bad != nil {
			return bad
		}
		if err != nil {
			return err
		}
		if err := r.fillHead(); err != nil {
			if err == io.EOF && r.w-r.r > r.skipped {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
}

// scan looks for line ends in what came. It is done when it has found the empty
// line. It looks at no byte twice.
func (r *Reader) scan() (done bool, err error) {
	if r.buf == nil {
		return false, nil
	}
	data := r.buf.b[r.r:min(r.w, r.r+r.limits.Head)]
	start := r.skipped
	if n := len(r.lines); n > 0 {
		start = r.lines[n-1]
	}
	for {
		i := bytes.IndexByte(data[r.scanned:], '\n')
		end := r.scanned + i + 1
		if i < 0 {
			r.scanned, end = len(data), len(data)+1 // at the best
		}
		switch {
		case len(r.lines) == 0 && end-start > r.limits.Line+2:
			return false, r.bad(414, "the start line is too long")
		case i < 0 && len(data) >= r.limits.Head:
			return false, r.bad(431, "the head is too large")
		case i < 0:
			return false, nil
		case !ended(data[start:end]):
			return false, r.bad(400, "a line does not end with CRLF")
		}
		r.scanned = end
		switch {
		case end-start > 2:
			if len(r.lines) > r.limits.Fields {
				return false, r.bad(431, "there are too many fields")
			}
			r.lines = append(r.lines, end)
		case len(r.lines) > 0:
			return true, nil
		case r.response || r.skipped > 0:
			return false, r.bad(400, "there is no start line")
		default:
			r.skipped = end
		}
		start = end
	}
}

// checkStart judges as much of the start line as there is.
func (r *Reader) checkStart() error {
	if len(r.lines) > 0 {
		line := r.buf.b[r.r+r.skipped : r.r+r.lines[0]-2]
		if r.response {
			return r.statusLine(&Response{}, line)
		}
		return r.requestLine(&Request{}, line)
	}
	// Some other protocol is known by its first byte, and might never send a line.
	if first := r.r + r.skipped; first < r.w {
		switch c := r.buf.b[first]; {
		case r.response && c != 'H':
			return r.bad(502, badVersion)
		case !r.response && !is(c, token) && (c != '\r' || r.skipped > 0):
			return r.bad(400, badRequestLine)
		}
	}
	return nil
}

// endHead takes the head off the buffer and returns its bytes.
func (r *Reader) endHead() []byte {
	head := r.buf.b[r.r : r.r+r.scanned]
	r.r += r.scanned
	r.keep = r.r
	return head
}

// fillHead reads once, after making room.
func (r *Reader) fillHead() error {
	if r.buf != nil && r.w == len(r.buf.b) {
		if r.r == 0 {
			r.grow()
		} else {
			r.w = copy(r.buf.b, r.buf.b[r.r:r.w])
			r.r = 0
		}
	}
	return r.fill()
}

// grow moves what is unread to the start of a larger buffer.
func (r *Reader) grow() {
	size := max(largeSize, r.w-r.r+smallSize)
	if n := len(r.buf.b); n >= largeSize && r.keep == 0 {
		size = 2 * n
	}
	next := r.pool.get(size)
	r.w = copy(next.b, r.buf.b[r.r:r.w])
	if r.keep > 0 && r.old == nil {
		r.old = r.buf
	} else {
		r.pool.put(r.buf)
	}
	r.buf, r.r, r.keep = next, 0, 0
}

// fill reads once into the room that there is.
func (r *Reader) fill() error {
	if r.err != nil {
		err := r.err
		r.err = nil
		return err
	}
	if r.buf == nil {
		r.buf = r.pool.get(smallSize)
	}
	for range 100 {
		n, err := r.src.Read(r.buf.b[r.w:min(len(r.buf.b), r.w+maxPiece)])
		if n > 0 {
			r.w += n
			r.full = r.w == len(r.buf.b)
			r.err = err
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}
