package proxy

import (
	"bytes"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// idle holds the connections of a wire that carry no request, the most recently
// used last.
type idle struct {
	mu    sync.Mutex
	conns []*conn
	// keep is how long a connection is kept, and most how many.
	keep time.Duration
	most int
	// era grows when the connections so far are to serve nobody new.
	era uint64
	// over is true once nobody will ask for a connection any more.
	over bool
}

// take returns a connection that can be used, or nil. It always looks at the socket,
// which costs as much as a read that brings nothing: bytes that nobody has asked for
// would be taken for the next answer, and they may be another client's. A caller cannot
// repeat his request if the connection turns out to be over.
func (i *idle) take(now time.Time) *conn {
	for {
		i.mu.Lock()
		n := len(i.conns)
		if n == 0 {
			i.mu.Unlock()
			return nil
		}
		c := i.conns[n-1]
		i.conns[n-1] = nil
		i.conns = i.conns[:n-1]
		i.mu.Unlock()
		if age := now.Sub(c.since); age < i.keep && c.peeker.quiet() {
			return c
		}
		c.end()
	}
}

// give keeps a connection for the next request, or closes it.
func (i *idle) give(c *conn, now time.Time) {
	c.since, c.reused, c.patience, c.uploading, c.listener, c.headBy, c.life = now, true, 0, 0, nil, time.Time{}, nil
	i.mu.Lock()
	keep := !i.over && i.keep > 0 && c.era == i.era && len(i.conns) < i.most
	var old *conn
	if keep {
		if len(i.conns) > 0 && now.Sub(i.conns[0].since) > i.keep {
			old = i.conns[0]
			i.conns = append(i.conns[:0], i.conns[1:]...)
		}
		i.conns = append(i.conns, c)
	}
	i.mu.Unlock()
	if !keep {
		c.end()
	}
	if old != nil {
		old.end()
	}
}

// sweep closes the connections that have been idle for too long. A burst leaves
// many of which a calmer time uses few, the last ones: nobody else looks at the first.
func (i *idle) sweep(now time.Time) {
	i.mu.Lock()
	n := 0 // they are in the order in which they were given
	for n < len(i.conns) && now.Sub(i.conns[n].since) >= i.keep {
		n++
	}
	old := slices.Clone(i.conns[:n])
	i.conns = slices.Delete(i.conns, 0, n)
	if len(i.conns) == 0 {
		i.conns = nil // a burst may have made it long
	}
	i.mu.Unlock()
	for _, c := range old {
		c.end()
	}
}

// sweep closes connections to instances that have been idle for too long, now and
// then, and drops the metrics of services that are gone. net/http does the former by
// itself.
func (f *follower) sweep(now time.Time) {
	if now.Sub(f.swept) < sweepEvery {
		return
	}
	f.swept = now
	f.metrics.prune(f.named)
	for _, c := range f.fleet.crews {
		for _, t := range c.targets {
			for _, w := range t.wires {
				w.own.sweep(now)
			}
		}
	}
}

// clear closes all connections; with retire, those that carry a request close
// after it.
func (i *idle) clear(retire bool) {
	i.mu.Lock()
	conns := i.conns
	i.conns = nil
	if retire {
		i.era++
	}
	i.mu.Unlock()
	for _, c := range conns {
		c.end()
	}
}

// finish closes all connections and keeps none from now on. Without it, one that
// carries a request while its instance leaves would be put aside where nobody
// looks again.
func (i *idle) finish() {
	i.mu.Lock()
	i.over = true
	i.mu.Unlock()
	i.clear(true)
}

func (i *idle) current() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.era
}

// peeker looks at the socket of one connection. It is for one user at a time.
type peeker struct {
	raw syscall.RawConn
	// at is made once: it would be garbage of each look.
	at  func(fd uintptr)
	one [1]byte
	err error
}

func (l *peeker) begin(c net.Conn) {
	l.raw = rawOf(c)
	l.at = func(fd uintptr) {
		_, _, l.err = unix.Recvfrom(int(fd), l.one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	}
}

// quiet reports whether nothing has come on an idle connection: neither an end
// nor bytes that nobody asked for.
func (l *peeker) quiet() bool {
	return l.raw != nil && l.raw.Control(l.at) == nil && l.err == unix.EAGAIN
}

// gone reports whether the peer has ended the connection.
func gone(c net.Conn) bool {
	n, err := peek(c)
	if _, direct := c.(syscall.Conn); n > 0 && !direct {
		// The last words of TLS, or the next request and then the end.
		over := false
		_ = rawOf(c).Control(func(fd uintptr) { over = hungUp(fd) })
		return over
	}
	return err == nil && n == 0 || err != nil && err != unix.EAGAIN && err != errNoPeek
}

const errNoPeek = syscall.ENOTSUP

// peek looks at one byte that has come, without waiting and without taking it.
func peek(c net.Conn) (n int, err error) {
	raw := rawOf(c)
	if raw == nil {
		return 0, errNoPeek
	}
	failed := raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	if failed != nil {
		return 0, failed
	}
	return n, err
}

// rawOf returns the socket below a connection, or nil.
func rawOf(c net.Conn) syscall.RawConn {
	for range 8 { // wrappers around wrappers
		if source, ok := c.(syscall.Conn); ok {
			if raw, err := source.SyscallConn(); err == nil {
				return raw
			}
			return nil
		}
		wrapped, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = wrapped.NetConn()
	}
	return nil
}

// awaitReadable waits until something has come on a connection, or its read
// deadline has passed, and needs no buffer for that. It reports errors of the wait
// alone: nil is also an end or a failure that the next read will tell.
func awaitReadable(raw syscall.RawConn) error {
	return raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return err != unix.EAGAIN
	})
}

// lookAtListener is how often it is looked whether the client of a silent stream of
// events is still there.
const lookAtListener = 5 * time.Second

// isEventStream reports whether an answer consists of server-sent events, which come
// when there is news.
func isEventStream(contentType []byte) bool {
	kind, _, _ := bytes.Cut(contentType, []byte(";"))
	return bytes.EqualFold(bytes.TrimSpace(kind), []byte("text/event-stream"))
}
