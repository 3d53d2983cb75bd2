package tcp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice/gateway/proxyproto"
)

const (
	// smallBuffer is what an idle direction holds, in bytes; largeBuffer is taken
	// while more comes than fits in it.
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
	// kernelRound is how long the kernel moves bytes before they are counted.
	kernelRound = time.Second
)

// ErrIdle means that nothing moved on a connection for longer than Config.Idle.
var ErrIdle = errors.New("nothing moved for too long")

// Which side has broken a connection that was carried: by a reset, or by an end that TLS
// takes for none. What it was is in the same error.
var (
	ErrClient   = errors.New("the client broke the connection")
	ErrUpstream = errors.New("the instance broke the connection")
)

// relay carries the bytes of one connection both ways.
type relay struct {
	client, upstream net.Conn
	// up counts the bytes from the client, down those to it.
	up, down *atomic.Uint64
	idle     time.Duration // 0 is without end
	buffers  *buffers
	// rescue is deferred by each direction, and told what to do about a panic.
	rescue func(end func(error))

	begin  time.Time
	active atomic.Int64 // nanoseconds after begin
	once   sync.Once
	err    error
	// ended counts the directions that have, and both is closed when both have.
	ended atomic.Int32
	both  chan struct{}
}

// buffers are shared by all connections of a Server.
type buffers struct{ small, large sync.Pool }

func newBuffers() *buffers {
	return &buffers{
		small: sync.Pool{New: func() any { return new([smallBuffer]byte) }},
		large: sync.Pool{New: func() any { return new([largeBuffer]byte) }},
	}
}

// run carries until both directions have ended, closes both sides, and returns
// the first failure. The end of one direction is passed on and the other goes on;
// a failure of one side resets the other.
func (r *relay) run() error {
	r.begin, r.both = time.Now(), make(chan struct{})
	var back sync.WaitGroup
	back.Go(func() { r.direction(r.client, r.upstream, r.down) })
	r.direction(r.upstream, r.client, r.up)
	back.Wait()
	_ = r.client.Close()
	_ = r.upstream.Close()
	return r.err
}

// by says that an error is of the side that a direction reads from, or writes to.
func (r *relay) by(count *atomic.Uint64, reading bool, err error) error {
	if (count == r.up) == reading {
		return fmt.Errorf("%w: %w", ErrClient, err)
	}
	return fmt.Errorf("%w: %w", ErrUpstream, err)
}

// fail keeps the first failure and resets both sides.
func (r *relay) fail(err error) {
	r.once.Do(func() {
		r.err = err
		reset(r.client)
		reset(r.upstream)
	})
}

// pump carries one direction. A direction starts with a small buffer; when more
// comes than fits it takes a large one, and when that is full too and both ends
// are sockets, the kernel moves the bytes (splice) for as long as it has any.
// Neither the large buffer nor the kernel's pipe is held while nothing moves.
func (r *relay) pump(dst, src net.Conn, count *atomic.Uint64) {
	to, from, sockets := socketsOf(dst, src)
	defer r.rescue(r.fail)
	held := r.buffers.small.Get().(*[smallBuffer]byte)
	defer r.buffers.small.Put(held)
	clock := deadline{relay: r, conn: src}
	for full := false; ; {
		if err := clock.set(); err != nil {
			r.fail(r.by(count, true, err))
			return
		}
		var err error
		if full {
			full, err = r.copyLarge(dst, src, count)
		} else {
			full, err = r.copyOnce(dst, src, held[:], count)
		}
		if err == nil && full && sockets {
			full, err = r.splice(to, from, &clock, count)
		}
		if r.over(err, dst, count) {
			return
		}
	}
}

// over judges the error of one step and reports whether the direction has ended.
func (r *relay) over(err error, dst net.Conn, count *atomic.Uint64) bool {
	switch {
	case err == nil:
		return false
	case err == io.EOF:
		if err := closeWrite(dst); err != nil {
			r.fail(r.by(count, false, err))
		}
		return true
	case errors.Is(err, ErrClient), errors.Is(err, ErrUpstream):
		r.fail(err)
		return true
	case !errors.Is(err, os.ErrDeadlineExceeded):
		r.fail(r.by(count, true, err))
		return true
	}
	if r.idle > 0 && time.Since(r.begin)-time.Duration(r.active.Load()) >= r.idle {
		r.fail(fmt.Errorf("%w: %s", ErrIdle, r.idle))
		return true
	}
	return false
}

// copyOnce moves what one Read gives and reports whether it filled the buffer.
func (r *relay) copyOnce(dst io.Writer, src io.Reader, buffer []byte, count *atomic.Uint64) (full bool, err error) {
	n, err := src.Read(buffer)
	if n > 0 {
		r.active.Store(int64(time.Since(r.begin)))
		written, failed := dst.Write(buffer[:n])
		count.Add(uint64(written))
		if failed != nil {
			return false, r.by(count, false, failed)
		}
	}
	return n == len(buffer), err
}

func (r *relay) copyLarge(dst io.Writer, src io.Reader, count *atomic.Uint64) (bool, error) {
	buffer := r.buffers.large.Get().(*[largeBuffer]byte)
	defer r.buffers.large.Put(buffer)
	return r.copyOnce(dst, src, buffer[:], count)
}

// splice lets the kernel move bytes for one round and reports whether it moved
// any.
func (r *relay) splice(to, from *net.TCPConn, clock *deadline, count *atomic.Uint64) (bool, error) {
	if err := clock.within(kernelRound); err != nil {
		return false, err
	}
	n, err := to.ReadFrom(from)
	if n > 0 {
		count.Add(uint64(n))
		r.active.Store(int64(time.Since(r.begin)))
	}
	switch {
	case err == nil:
		return false, io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded) && n > 0:
		return true, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, err
	}
	return false, r.by(count, ended(from), err)
}

// ended reports whether nothing more will come on a socket: of two, between which the
// kernel could not go on, that is the one that was reset.
func ended(socket *net.TCPConn) bool {
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	over := false
	_ = raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		over = n == 0 && err == nil || err != nil && err != unix.EAGAIN
	})
	return over
}

// deadline is the read deadline of one direction: the moment at which it looks
// whether the connection is idle. It is moved seldom, because moving it costs.
type deadline struct {
	relay *relay
	conn  net.Conn
	at    time.Time
}

// set moves the deadline on once half of it has passed, and takes away what
// splice has left where nothing is ever idle.
func (d *deadline) set() error {
	var at time.Time
	if look := d.relay.idle / 4; look > 0 {
		now := time.Now()
		if left := d.at.Sub(now); look/2 < left && left <= look {
			return nil
		}
		at = now.Add(look)
	} else if d.at.IsZero() {
		return nil
	}
	d.at = at
	return d.conn.SetReadDeadline(at)
}

// within sets the deadline to d from now.
func (d *deadline) within(round time.Duration) error {
	d.at = time.Now().Add(round)
	return d.conn.SetReadDeadline(d.at)
}

// socketsOf returns the sockets of two connections if both are plain TCP.
func socketsOf(a, b net.Conn) (x, y *net.TCPConn, ok bool) {
	x, okX := socketOf(a)
	y, okY := socketOf(b)
	return x, y, okX && okY
}

func socketOf(conn net.Conn) (*net.TCPConn, bool) {
	// Of such a connection no more than the header was read.
	if headed, ok := conn.(*proxyproto.Conn); ok {
		conn = headed.NetConn()
	}
	socket, ok := conn.(*net.TCPConn)
	return socket, ok
}

// closeWrite passes on the end of a direction. Where there is no half-close, the
// whole connection ends.
func closeWrite(conn net.Conn) error {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return conn.Close()
	}
	err := half.CloseWrite()
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return conn.Close()
	case errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ENOTCONN):
		return nil // it is gone, and whoever reads from it learns how
	}
	return err
}

// reset ends a connection so that its peer gets a reset instead of an end: what
// was cut must not look complete.
func reset(conn net.Conn) {
	if cutter, ok := conn.(interface{ Cut(string) }); ok {
		cutter.Cut("the other side was reset")
		return
	}
	under := conn
	if headed, ok := conn.(interface{ NetConn() net.Conn }); ok {
		under = headed.NetConn()
	}
	if linger, ok := under.(interface{ SetLinger(int) error }); ok {
		_ = linger.SetLinger(0)
	}
	// Not that of conn: TLS would first wait to say goodbye.
	_ = under.Close()
	_ = conn.Close()
}
