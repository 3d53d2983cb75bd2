package proxy

import (
	"net"
	"os"
	"sync/atomic"
	"time"
)

// client is the connection of a client, whose deadlines move with its bytes.
type client struct {
	net.Conn
	// patience bounds the pause in a body; 0 while heads are awaited.
	patience     time.Duration
	write        time.Duration
	armed, wrote time.Time
	// readUntil and writeUntil end the request, and the answer, however they move; zero is
	// never.
	readUntil, writeUntil time.Time
	// head is how long the rest of a head may take, from the next Read on; 0 if none is
	// awaited, or the deadline is set.
	head time.Duration
	// readBy is the deadline of reads that we have set last. Another one may stand once
	// the connection is to end.
	readBy time.Time
	// stopped is true once nobody waits for a body: errors from then on are not the
	// client's.
	stopped atomic.Bool
	// pace bounds how slowly a body may come; it is for one body at a time.
	pace pace
}

// rateGrace is how long a body may come as slowly as it likes.
const rateGrace = 10 * time.Second

// pace is the least rate of a body.
type pace struct {
	least int64 // bytes per second; 0 is none
	since time.Time
	got   int64
}

// slow reports whether a body of which n more bytes came is too slow.
func (p *pace) slow(n int, now time.Time) bool {
	p.got += int64(n)
	passed := now.Sub(p.since)
	return p.least > 0 && passed > rateGrace && float64(p.got) < float64(p.least)*passed.Seconds()
}

// Read reads what the client sends.
func (c *client) Read(p []byte) (int, error) {
	if c.patience == 0 {
		if c.head > 0 {
			c.setRead(time.Now().Add(c.head))
			c.head = 0
		}
		return c.Conn.Read(p)
	}
	now := time.Now()
	if now.Sub(c.armed) > c.patience/4 {
		c.setRead(earlier(now.Add(c.patience), c.readUntil))
		c.armed = now
		if c.stopped.Load() {
			return 0, os.ErrDeadlineExceeded // stop came before the deadline was moved
		}
	}
	n, err := c.Conn.Read(p)
	if err == nil && c.pace.slow(n, now) {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

// earlier is the first of two moments; a zero limit is none.
func earlier(t, limit time.Time) time.Time {
	if !limit.IsZero() && limit.Before(t) {
		return limit
	}
	return t
}

// setRead moves the deadline of reads. If that fails, so does the next read.
func (c *client) setRead(t time.Time) {
	c.readBy = t
	_ = c.SetReadDeadline(t)
}

// stop ends a Read of a body in another goroutine.
func (c *client) stop() {
	c.stopped.Store(true)
	_ = c.SetReadDeadline(time.Unix(1, 0))
}

// Write sends to the client.
func (c *client) Write(p []byte) (int, error) {
	if now := time.Now(); now.Sub(c.wrote) > c.write/4 {
		if err := c.SetWriteDeadline(earlier(now.Add(c.write), c.writeUntil)); err != nil {
			return 0, err
		}
		c.wrote = now
	}
	return c.Conn.Write(p)
}
