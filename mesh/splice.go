package mesh

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// copyBufferSize is the largest piece that Splice moves at once, in bytes: two
// TLS records.
const copyBufferSize = 32 << 10

// Splice copies both ways between a and b until both directions have ended, and
// closes both. The end of one direction (half-close) is passed on and the other
// direction goes on; a reset, or any other failure, of one side resets the other,
// and so does the end of ctx. It returns nil if both directions ended well, else
// the first failure.
func Splice(ctx context.Context, a, b net.Conn) error {
	s := &splice{a: a, b: b, buffers: buffersOf(a, b)}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		s.fail(context.Cause(ctx))
	})
	var back sync.WaitGroup
	back.Go(func() { s.copy(a, b) })
	s.copy(b, a)
	back.Wait()
	if !stop() {
		<-interrupted
	}
	_ = a.Close()
	_ = b.Close()
	return s.err
}

type splice struct {
	a, b    net.Conn
	buffers *sync.Pool
	once    sync.Once
	err     error
}

// fail keeps the first failure and resets both sides.
func (s *splice) fail(err error) {
	s.once.Do(func() {
		s.err = err
		reset(s.a)
		reset(s.b)
	})
}

// copy moves bytes from src to dst until src ends or either fails.
func (s *splice) copy(dst, src net.Conn) {
	buffer := s.buffers.Get().(*[copyBufferSize]byte)
	defer s.buffers.Put(buffer)
	for {
		n, err := src.Read(buffer[:])
		if n > 0 {
			if _, werr := dst.Write(buffer[:n]); werr != nil {
				s.fail(werr)
				return
			}
		}
		switch {
		case err == io.EOF:
			if err := closeWrite(dst); err != nil {
				s.fail(err)
			}
			return
		case err != nil:
			s.fail(err)
			return
		}
	}
}

// closeWrite passes on the end of a direction. Where there is no half-close, the
// whole connection ends.
func closeWrite(conn net.Conn) error {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return conn.Close()
	}
	if err := half.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// buffersOf returns the pool of the table that a or b belongs to.
func buffersOf(conns ...net.Conn) *sync.Pool {
	for _, conn := range conns {
		switch c := conn.(type) {
		case *Conn:
			return &c.table.buffers
		case *leaderEnd:
			return &c.table.buffers
		}
	}
	return &sync.Pool{New: newCopyBuffer}
}

func newCopyBuffer() any { return new([copyBufferSize]byte) }
