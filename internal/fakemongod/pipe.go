package fakemongod

import (
	"context"
	"net"
	"os"
	"sync"
	"syscall"
)

// backlog is how many connections wait to be accepted, as in a kernel.
const backlog = 128

// Pipe is a network in memory with room for one listener. Unlike sockets it can
// be used in a bubble of testing/synctest.
type Pipe struct {
	name string

	mu       sync.Mutex
	listener *pipeListener
}

// NewPipe returns a network whose listener has the address name, a "host:port".
func NewPipe(name string) *Pipe { return &Pipe{name: name} }

// DialContext connects to the listener, whatever the address: a driver takes it
// as its dialer. Without a listener the connection is refused.
func (p *Pipe) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	p.mu.Lock()
	l := p.listener
	p.mu.Unlock()
	if l == nil {
		return nil, refused()
	}
	ours, theirs := net.Pipe()
	select {
	case l.incoming <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, refused()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func refused() error {
	return &net.OpError{Op: "dial", Net: "pipe", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
}

func (p *Pipe) listen() (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return nil, &net.OpError{Op: "listen", Net: "pipe", Err: syscall.EADDRINUSE}
	}
	p.listener = &pipeListener{pipe: p, incoming: make(chan net.Conn, backlog), closed: make(chan struct{})}
	return p.listener, nil
}

type pipeListener struct {
	pipe     *Pipe
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.incoming:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() {
		l.pipe.mu.Lock()
		l.pipe.listener = nil
		l.pipe.mu.Unlock()
		close(l.closed)
		for {
			select {
			case c := <-l.incoming:
				_ = c.Close()
			default:
				return
			}
		}
	})
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.pipe.name) }

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }
