package h1

import (
	"errors"
	"io"
	"strconv"
)

// ErrInjection means that a field value with a control byte was given to a Writer.
var ErrInjection = errors.New("a field value has a control byte")

// Writer collects a head and the first piece of a body, so that they leave in one
// write: one system call, one TLS record. Between messages it holds no buffer. It is
// not for concurrent use. The first error stays, and Flush returns it.
type Writer struct {
	dst  io.Writer
	pool *Pool
	buf  *buffer
	n    int
	err  error

	written int64
}

// NewWriter returns a Writer with a Pool of its own. Where there are many, use
// Pool.NewWriter.
func NewWriter(dst io.Writer) *Writer { return NewPool().NewWriter(dst) }

// Reset makes the Writer write to dst. What was not flushed is forgotten, and so
// are the error and the count.
func (w *Writer) Reset(dst io.Writer) {
	w.Release()
	w.dst, w.err, w.written = dst, nil, 0
}

// Release gives the buffer back; what was not flushed is forgotten.
func (w *Writer) Release() {
	w.pool.put(w.buf)
	w.buf, w.n = nil, 0
}

// Buffered returns how many bytes wait for Flush.
func (w *Writer) Buffered() int { return w.n }

// Written returns how many bytes the destination took since Reset. While it is 0,
// the peer has seen nothing.
func (w *Writer) Written() int64 { return w.written }

// RequestLine begins a request of HTTP/1.1.
func (w *Writer) RequestLine(method, target []byte) {
	w.Raw(method)
	w.String(" ")
	w.Raw(target)
	w.String(" HTTP/1.1\r\n")
}

// StatusLine begins a response of HTTP/1.1. The status has three digits.
func (w *Writer) StatusLine(status int, reason []byte) {
	b := append(w.room(32), "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	w.n += len(append(b, ' '))
	w.Raw(reason)
	w.String("\r\n")
}

// Field writes a field line. The name must be a token. A value that could end the
// line is refused with ErrInjection.
func (w *Writer) Field(name string, value []byte) {
	if !validText(value) {
		w.fail(ErrInjection)
		return
	}
	w.String(name)
	w.String(": ")
	w.Raw(value)
	w.String("\r\n")
}

// Copy writes a field line that was read.
func (w *Writer) Copy(f Field) {
	w.Raw(f.Name)
	w.String(": ")
	w.Raw(f.Value)
	w.String("\r\n")
}

// Framing writes the field that says where the body ends: Content-Length,
// Transfer-Encoding or none.
func (w *Writer) Framing(f Framing) {
	switch f.Kind {
	case Sized:
		w.String("Content-Length: ")
		w.n += len(strconv.AppendInt(w.room(20), f.Length, 10))
		w.String("\r\n")
	case Chunked:
		w.String("Transfer-Encoding: chunked\r\n")
	}
}

// EndHead writes the empty line after the fields.
func (w *Writer) EndHead() { w.String("\r\n") }

// Raw writes bytes as they are.
func (w *Writer) Raw(p []byte) { put(w, p) }

// String writes a string as it is.
func (w *Writer) String(s string) { put(w, s) }

// put copies into the buffer; the buffer is flushed when it is as large as buffers
// get and full.
func put[T string | []byte](w *Writer, p T) {
	for len(p) > 0 && w.err == nil {
		w.grow(len(p))
		n := copy(w.buf.b[w.n:], p)
		w.n += n
		if p = p[n:]; len(p) > 0 {
			w.send()
		}
	}
}

// room returns the empty rest of the buffer, which has at least n bytes.
func (w *Writer) room(n int) []byte {
	w.grow(n)
	if len(w.buf.b)-w.n < n {
		w.send()
	}
	return w.buf.b[w.n:w.n]
}

// grow makes room for n bytes, or as much as a large buffer has.
func (w *Writer) grow(n int) {
	switch {
	case w.buf == nil:
		w.buf = w.pool.get(min(n, largeSize))
	case len(w.buf.b)-w.n < n && len(w.buf.b) < largeSize:
		next := w.pool.get(largeSize)
		copy(next.b, w.buf.b[:w.n])
		w.pool.put(w.buf)
		w.buf = next
	}
}

// Write sends content: directly if nothing waits, else behind what waits and only
// once the buffer is full or flushed.
func (w *Writer) Write(p []byte) (int, error) {
	if w.n == 0 {
		return w.direct(p)
	}
	w.Raw(p)
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

func (w *Writer) direct(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.dst.Write(p)
	w.written += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	w.fail(err)
	return n, err
}

// send writes out what waits. What waits after an error is forgotten.
func (w *Writer) send() {
	if w.n > 0 {
		_, _ = w.direct(w.buf.b[:w.n])
		w.n = 0
	}
}

// Flush sends what waits, gives the buffer back and returns the first error since
// Reset.
func (w *Writer) Flush() error {
	w.send()
	w.Release()
	return w.err
}

func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}
