package tcp_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"sluice/gateway/tcp"
)

// plenty is more than what buffers hold, so that the kernel moves bytes where it may.
const plenty = 8 << 20

// moment is what a side does before it resets its connection, and what the other one does
// meanwhile.
type moment struct{ resets, meets func(conn *net.TCPConn) }

func moments() map[string]moment {
	take := func(conn *net.TCPConn) { _, _ = io.Copy(io.Discard, conn) }
	send := func(conn *net.TCPConn) {
		for data := make([]byte, 64<<10); ; {
			if _, err := conn.Write(data); err != nil {
				return
			}
		}
	}
	return map[string]moment{
		"while nothing moves": {
			func(conn *net.TCPConn) { _, _ = conn.Read(make([]byte, 1)) },
			func(conn *net.TCPConn) { _, _ = conn.Write([]byte("x")); take(conn) },
		},
		"while it sends": {func(conn *net.TCPConn) { _, _ = conn.Write(make([]byte, plenty)) }, take},
		"while it takes": {func(conn *net.TCPConn) { _, _ = io.CopyN(io.Discard, conn, plenty) }, send},
	}
}

func TestAResetIsToldToBeOfTheSideThatHasMadeIt(t *testing.T) {
	for when, m := range moments() {
		for _, kernel := range []bool{true, false} {
			for side, want := range map[string]error{"client": tcp.ErrClient, "instance": tcp.ErrUpstream} {
				breaks := func(conn *net.TCPConn) {
					m.resets(conn)
					_ = conn.SetLinger(0)
					_ = conn.Close()
				}
				client, served := breaks, m.meets
				if side == "instance" {
					client, served = m.meets, breaks
				}
				address := instance(t, served)
				g := start(t, tcp.Config{Route: through(address, kernel)})
				client(g.dial(t))
				err := g.ending(t).err
				if !errors.Is(err, want) || errors.Is(err, tcp.ErrClient) == errors.Is(err, tcp.ErrUpstream) ||
					!errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
					t.Errorf("the %s resets %s, kernel %t: %v", side, when, kernel, err)
				}
			}
		}
	}
}
