package h1

import (
	"bytes"
	"errors"
	"io"
	"math"
)

const (
	maxDigits = 16
	// maxExtensions bounds the chunk extensions of one body, in bytes.
	maxExtensions = 1 << 10
)

// errMore means that a body goes on after what is buffered.
var errMore = errors.New("more bytes are needed")

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkData
	chunkEnd
	chunkTrailer
	chunkDone
)

// decoder is how far a body was read.
type decoder struct {
	kind       Kind
	left       int64 // bytes of the body or of the chunk
	state      chunkState
	extensions int // bytes
	trailer    []Field
}

func (d *decoder) reset(f Framing) {
	*d = decoder{kind: f.Kind, left: f.Length, trailer: d.trailer[:0]}
}

// piece takes at most limit bytes of content off the buffer. It returns io.EOF after
// the last, errMore if nothing is buffered, or an *Error.
func (r *Reader) piece(limit int) ([]byte, error) {
	d := &r.decoder
	switch d.kind {
	case Sized:
		if d.left == 0 {
			return nil, io.EOF
		}
		return r.take(limit)
	case UntilClose:
		d.left = math.MaxInt64
		return r.take(limit)
	case Chunked:
		return r.chunkPiece(limit)
	}
	return nil, io.EOF
}

// take takes what is buffered of what is left.
func (r *Reader) take(limit int) ([]byte, error) {
	n := min(r.decoder.left, int64(limit), int64(r.w-r.r))
	if n == 0 {
		return nil, errMore
	}
	p := r.buf.b[r.r : r.r+int(n)]
	r.r += int(n)
	r.decoder.left -= n
	return p, nil
}

func (r *Reader) chunkPiece(limit int) ([]byte, error) {
	d := &r.decoder
	for {
		var err error
		switch d.state {
		case chunkSize:
			err = r.sizeLine()
		case chunkData:
			if d.left > 0 {
				return r.take(limit)
			}
			d.state = chunkEnd
		case chunkEnd:
			err = r.dataEnd()
		case chunkTrailer:
			err = r.trailerSection()
		default:
			return nil, io.EOF
		}
		if err != nil {
			return nil, err
		}
	}
}

// sizeLine takes the line before the data of a chunk.
func (r *Reader) sizeLine() error {
	d := &r.decoder
	longest := maxDigits + maxExtensions - d.extensions + 2
	data := r.unread(longest)
	end := bytes.IndexByte(data, '\n')
	switch {
	case len(data) > 0 && !is(data[0], hex):
		return r.bad(400, "a chunk size is malformed")
	case end < 0 && len(data) == longest:
		return r.bad(400, "a chunk size or its extensions are too long")
	case end < 0:
		return errMore
	case data[end-1] != '\r':
		return r.bad(400, "a chunk size does not end with CRLF")
	}
	line := data[:end-1]
	n := 0
	for n < len(line) && is(line[n], hex) {
		n++
	}
	size, ok := hexadecimal(line[:n])
	if !ok {
		return r.bad(400, "a chunk size is malformed")
	}
	if d.extensions += len(line) - n; d.extensions > maxExtensions || !validExtensions(line[n:]) {
		return r.bad(400, "chunk extensions are malformed or too long")
	}
	r.r += end + 1
	d.left = size
	if d.state = chunkData; size == 0 {
		d.state = chunkTrailer
		r.lines, r.scanned = r.lines[:0], 0
	}
	return nil
}

// unread returns at most limit of the bytes that are buffered.
func (r *Reader) unread(limit int) []byte {
	if r.buf == nil {
		return nil
	}
	return r.buf.b[r.r:min(r.w, r.r+limit)]
}

// hexadecimal reads 1 to 16 hexadecimal digits that fit in 63 bits.
func hexadecimal(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > maxDigits {
		return 0, false
	}
	for _, c := range b {
		if n >= 1<<59 {
			return 0, false
		}
		d := small(c)
		if digit(d) {
			d -= '0'
		} else {
			d -= 'a' - 10
		}
		n = n<<4 | int64(d)
	}
	return n, true
}

// validExtensions reports whether b is *( ";" NAME [ "=" VALUE ] ), where a value is a
// token or a quoted string (RFC 9112, section 7.1.1). The whitespace that the RFC
// calls bad is refused.
func validExtensions(b []byte) bool {
	word := func() int {
		n := 0
		for n < len(b) && is(b[n], token) {
			n++
		}
		return n
	}
	for len(b) > 0 {
		if b[0] != ';' {
			return false
		}
		b = b[1:]
		n := word()
		if n == 0 {
			return false
		}
		if b = b[n:]; len(b) == 0 || b[0] != '=' {
			continue
		}
		b = b[1:]
		if n = word(); n == 0 {
			n = quoted(b)
		}
		if n == 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

// quoted returns the length of the quoted string that b begins with; 0 if there is
// none (RFC 9110, section 5.6.4).
func quoted(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		return 0
	}
	for i := 1; i < len(b); i++ {
		switch {
		case b[i] == '"':
			return i + 1
		case b[i] == '\\':
			if i++; i == len(b) {
				return 0
			}
			fallthrough
		default:
			if !is(b[i], text) {
				return 0
			}
		}
	}
	return 0
}

// dataEnd takes the CRLF after the data of a chunk.
func (r *Reader) dataEnd() error {
	data := r.unread(2)
	if len(data) > 0 && data[0] != '\r' || len(data) > 1 && data[1] != '\n' {
		return r.bad(400, "the data of a chunk does not end with CRLF")
	}
	if len(data) < 2 {
		return errMore
	}
	r.r += 2
	r.decoder.state = chunkSize
	return nil
}

// trailerSection takes the lines after the last chunk.
func (r *Reader) trailerSection() error {
	data := r.unread(r.limits.Trailer)
	start := 0
	if n := len(r.lines); n > 0 {
		start = r.lines[n-1]
	}
	for {
		i := bytes.IndexByte(data[r.scanned:], '\n')
		end := r.scanned + i + 1
		switch {
		case i < 0 && len(data) >= r.limits.Trailer:
			return r.bad(431, "the trailer section is too large")
		case i < 0:
			r.scanned = len(data)
			return errMore
		case !ended(data[start:end]):
			return r.bad(400, "a line does not end with CRLF")
		}
		r.scanned = end
		if end-start == 2 {
			break
		}
		if len(r.lines) >= r.limits.Fields {
			return r.bad(431, "there are too many trailer fields")
		}
		r.lines = append(r.lines, end)
		start = end
	}
	if err := r.trailerFields(data); err != nil {
		return err
	}
	r.r += r.scanned
	r.decoder.state = chunkDone
	return nil
}
