package h1

import (
	"errors"
	"io"
	"strconv"
)

// ReadError means that the body could not be read: an *Error, io.ErrUnexpectedEOF if
// the peer ended within the body, or an error of the source.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return "read the body: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ReadError) Unwrap() error { return e.Err }

// WriteError means that the body, or the head before it, could not be sent on.
type WriteError struct{ Err error }

func (e *WriteError) Error() string { return "send the body on: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *WriteError) Unwrap() error { return e.Err }

// ErrBodyClosed means that a Body was read after Close, or after the next head.
var ErrBodyClosed = errors.New("read of a closed body")

// CopyBody copies the body of the message that was read to w, which may hold the
// head, and flushes. The body keeps its kind: chunks are decoded, checked and made
// again, with no extensions. Of a trailer section, the fields that may be in one go
// along if keepTrailers is true.
//
// All that has come is sent before it waits for more. n counts bytes of content that were read. The
// error is a *ReadError or a *WriteError; after a *ReadError, the copy is cut off
// where the original is broken, and must not be ended as if it were whole.
func (r *Reader) CopyBody(w *Writer, f Framing, keepTrailers bool) (n int64, err error) {
	return r.CopyBodyAs(w, f, f.Kind, keepTrailers)
}

// CopyBodyAs is CopyBody to another kind: as Chunked, for a body UntilClose that goes
// to a client of HTTP/1.1; or UntilClose, for chunks that go to one of HTTP/1.0. With
// any kind but Chunked the content is written as it is.
func (r *Reader) CopyBodyAs(w *Writer, f Framing, to Kind, keepTrailers bool) (n int64, err error) {
	r.decoder.reset(f)
	for {
		p, err := r.piece(maxPiece)
		switch {
		case err == nil:
			n += int64(len(p))
			if n > r.limits.Body && r.limits.Body > 0 && !r.response {
				return n, &ReadError{r.bad(413, tooMuch)}
			}
			writePiece(w, p, to)
		case err == io.EOF:
			if to == Chunked {
				r.writeTrailer(w, keepTrailers)
			}
			if err := w.Flush(); err != nil {
				return n, &WriteError{err}
			}
			return n, nil
		case err == errMore:
			if err := w.Flush(); err != nil {
				return n, &WriteError{err}
			}
			if err := r.fillBody(); err != nil {
				return n, &ReadError{err}
			}
		default:
			_ = w.Flush() // what was good; the reader's error says why there is no more
			return n, &ReadError{err}
		}
	}
}

func writePiece(w *Writer, p []byte, to Kind) {
	if to != Chunked {
		_, _ = w.Write(p) // the error stays, and Flush returns it
		return
	}
	// Together they go out at once if the buffer has room for the three.
	b := strconv.AppendUint(w.room(maxDigits+2), uint64(len(p)), 16)
	w.n += len(append(b, '\r', '\n'))
	w.Raw(p)
	w.String("\r\n")
}

func (r *Reader) writeTrailer(w *Writer, keep bool) {
	w.String("0\r\n")
	if keep {
		for _, f := range r.decoder.trailer {
			w.Copy(f)
		}
	}
	w.String("\r\n")
}

// fillBody reads once behind the head, which stays where it is. A larger buffer is
// taken when the one there is was filled, so that a body which trickles holds little.
func (r *Reader) fillBody() error {
	if r.r == r.w {
		r.r, r.w = r.keep, r.keep
	}
	switch {
	case r.buf == nil:
	case r.full && len(r.buf.b) < largeSize, len(r.buf.b)-r.keep < smallSize/4:
		r.grow()
	case r.w < len(r.buf.b):
	case r.r > r.keep:
		r.w = r.keep + copy(r.buf.b[r.keep:], r.buf.b[r.r:r.w])
		r.r = r.keep
	default:
		r.grow()
	}
	err := r.fill()
	if err != io.EOF {
		return err
	}
	if r.decoder.kind == UntilClose {
		r.decoder.kind = NoBody
		return nil
	}
	return io.ErrUnexpectedEOF
}

// Discard reads the body of the message that was read and forgets it, so that the
// connection can be kept. It gives up, with drained false, before it has read more
// than limit bytes of content, and at once where the body is known to be longer or
// ends with the connection. The error is a *ReadError.
func (r *Reader) Discard(f Framing, limit int64) (drained bool, err error) {
	r.decoder.reset(f)
	return r.drain(limit)
}

func (r *Reader) drain(limit int64) (drained bool, err error) {
	d := &r.decoder
	if d.kind == UntilClose || d.kind == Sized && d.left > limit {
		return false, nil
	}
	for {
		p, err := r.piece(largeSize)
		switch {
		case err == nil:
			if limit -= int64(len(p)); limit < 0 {
				return false, nil
			}
		case err == io.EOF:
			return true, nil
		case err == errMore:
			if err := r.fillBody(); err != nil {
				return false, &ReadError{err}
			}
		default:
			return false, &ReadError{err}
		}
	}
}

// Body is the content of a message as an io.ReadCloser. It is a part of its Reader:
// there is one at a time.
type Body struct {
	r      *Reader
	ended  bool
	closed bool
}

// Body returns the body of the message that was read. It is valid until the next
// head is read.
func (r *Reader) Body(f Framing) *Body {
	r.decoder.reset(f)
	r.body = Body{r: r}
	return &r.body
}

// Read reads content. Its errors are io.EOF after the last byte and *ReadError.
func (b *Body) Read(p []byte) (int, error) {
	if b.closed {
		return 0, ErrBodyClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		piece, err := b.r.piece(len(p))
		switch {
		case err == nil:
			return copy(p, piece), nil
		case err == io.EOF:
			b.ended = true
			return 0, io.EOF
		case err != errMore:
			return 0, &ReadError{err}
		}
		if err := b.r.fillBody(); err != nil {
			return 0, &ReadError{err}
		}
	}
}

// Ended reports whether Read has returned io.EOF: the next head may be read.
func (b *Body) Ended() bool { return b.ended }

// Trailer returns the trailer fields that may be in one, once Read has returned
// io.EOF.
func (b *Body) Trailer() []Field {
	if !b.ended {
		return nil
	}
	return b.r.decoder.trailer
}

// Discard is Reader.Discard for what is left.
func (b *Body) Discard(limit int64) (drained bool, err error) {
	drained, err = b.r.drain(limit)
	b.ended = b.ended || drained
	return drained, err
}

// Close ends the use of the body. It reads nothing and returns nil.
func (b *Body) Close() error {
	b.closed = true
	return nil
}
