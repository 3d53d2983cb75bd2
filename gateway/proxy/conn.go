package proxy

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"sluice/gateway/h1"
)

// conn is a connection to an instance that speaks HTTP/1.1.
type conn struct {
	net.Conn
	reader   *h1.Reader
	writer   *h1.Writer
	response h1.Response
	// reused is true from the second request on.
	reused bool
	since  time.Time
	era    uint64
	// serial is that of the leaf which the gateway has shown, hexadecimal.
	serial string
	// patience bounds the pause between two pieces of a body; 0 while a head is
	// awaited.
	patience time.Duration
	armed    time.Time
	// readBy and writeBy are the deadlines that are set, as far as we set them: moving
	// one costs as much as a small read. headBy is when the head has to be whole; zero
	// while somebody waits who wants to hear of readBy.
	readBy, writeBy, headBy time.Time
	// stopped is true once nobody waits for the answer.
	stopped atomic.Bool
	// life ends when a body is not to be waited for any longer; unhook, if not nil, ends
	// listening to that, and reports whether life goes on.
	life   context.Context //nolint:containedctx // see Connection
	unhook func() bool
	// bare is true of a plain TCP connection, above which nothing keeps bytes.
	bare   bool
	peeker peeker
	// listener is the client of an answer that may be silent for as long as it is
	// there; nil for others.
	listener net.Conn
	// wrote is when the deadline for taking a piece of a body was moved, if uploading.
	uploading time.Duration
	wrote     time.Time
	one       [1]byte
}

// left reports whether something of what has come is left behind an answer. TLS may
// hold it, where no look at the socket finds it; it would answer the next request.
func (c *conn) left() bool {
	if c.reader.Buffered() > 0 {
		return true
	}
	if c.bare {
		return false // take looks at the socket
	}
	if c.setRead(time.Unix(1, 0)) != nil {
		return true
	}
	n, err := c.Conn.Read(c.one[:])
	return n > 0 || !errors.Is(err, os.ErrDeadlineExceeded)
}

// Read reads what the instance sends. The deadline for the next piece of a body
// is moved only now and then: that costs more than a read.
func (c *conn) Read(p []byte) (int, error) {
	if c.patience > 0 {
		if now := time.Now(); now.Sub(c.armed) > c.patience/4 {
			if err := c.arm(now); err != nil {
				return 0, err
			}
		}
	}
	n, err := c.Conn.Read(p)
	for n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		again, failed := c.patient()
		if failed != nil {
			return 0, failed
		}
		if !again {
			break
		}
		n, err = c.Conn.Read(p)
	}
	return n, err
}

// patient decides whether a read whose deadline has passed goes on, and moves the
// deadline then.
func (c *conn) patient() (again bool, err error) {
	now := time.Now()
	switch {
	case c.patience == 0 && now.Before(c.headBy):
		err = c.setRead(c.headBy)
	case c.patience > 0 && c.listener != nil:
		if gone(c.listener) {
			return false, errClientGone
		}
		err = c.arm(now)
	default:
		return false, nil
	}
	// stop may have come before the deadline was moved.
	return err == nil && !c.stopped.Load(), err
}

// arm moves the deadline for the next piece of a body. A body that has come with its
// head never gets here, so only who waits listens to the end of life.
func (c *conn) arm(now time.Time) error {
	if c.unhook == nil && c.life != nil {
		c.unhook = context.AfterFunc(c.life, c.stop)
	}
	if err := c.setRead(now.Add(c.patience)); err != nil {
		return err
	}
	c.armed = now
	if c.stopped.Load() {
		return errCutOff // stop came before the deadline was moved
	}
	return nil
}

// settled ends listening to the end of life, and reports whether it goes on.
func (c *conn) settled() bool {
	if c.unhook == nil {
		return true
	}
	on := c.unhook()
	c.unhook = nil
	return on
}

// stop ends what another goroutine reads or writes here, for good.
func (c *conn) stop() {
	c.stopped.Store(true)
	_ = c.SetDeadline(time.Unix(1, 0))
}

// setRead moves the deadline of reads.
func (c *conn) setRead(t time.Time) error {
	c.readBy = t
	return c.SetReadDeadline(t)
}

// readWithin makes reads end at latest, or earlier, but not before soonest: the
// deadline is moved only if it lies elsewhere.
func (c *conn) readWithin(soonest, latest time.Time) error {
	if !c.readBy.Before(soonest) && !c.readBy.After(latest) {
		return nil
	}
	return c.setRead(latest)
}

// writeFrom makes writes end at soonest, or a quarter of d after it. The deadline is
// moved once in that quarter, and not for each request.
func (c *conn) writeFrom(soonest time.Time, d time.Duration) error {
	latest := soonest.Add(d / 4)
	if !c.writeBy.Before(soonest) && !c.writeBy.After(latest) {
		return nil
	}
	c.writeBy = latest
	return c.SetWriteDeadline(latest)
}

// Write sends to the instance.
func (c *conn) Write(p []byte) (int, error) {
	if c.uploading > 0 {
		if now := time.Now(); now.Sub(c.wrote) > c.uploading/4 {
			c.writeBy = now.Add(c.uploading)
			if err := c.SetWriteDeadline(c.writeBy); err != nil {
				return 0, err
			}
			c.wrote = now
			if c.stopped.Load() {
				return 0, errCutOff // see arm
			}
		}
	}
	return c.Conn.Write(p)
}

func (c *conn) end() {
	// A farewell may block behind a peer that does not read; the deadline ends that.
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_ = c.Close()
	c.reader.Release()
	c.writer.Release()
}
