package tcp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"sluice/gateway/tcp"
)

var errFault = errors.New("a fault")

// tripping panics when it is read or written.
type tripping struct {
	net.Conn
	read, write bool
}

func (c tripping) Read(p []byte) (int, error) {
	if c.read {
		panic("read")
	}
	return c.Conn.Read(p)
}

func (c tripping) Write(p []byte) (int, error) {
	if c.write {
		panic("write")
	}
	return c.Conn.Write(p)
}

func TestAPanicCostsItsConnectionAndNothingElse(t *testing.T) {
	address := instance(t, echo)
	for _, where := range []string{"route", "dial", "read", "write"} {
		var broken atomic.Bool
		var panics atomic.Int64
		g := start(t, tcp.Config{
			Panicked: func(failure any) error { panics.Add(1); return fmt.Errorf("%w: %v", errFault, failure) },
			Route: func(context.Context, tcp.Call) (tcp.Target, error) {
				if broken.Load() && where == "route" {
					panic(where)
				}
				to := target(address)
				dial := to.Dial
				to.Dial = func(ctx context.Context) (net.Conn, error) {
					if broken.Load() && where == "dial" {
						panic(where)
					}
					conn, err := dial(ctx)
					if broken.Load() {
						conn = tripping{conn, where == "read", where == "write"}
					}
					return conn, err
				}
				return to, nil
			},
		})
		bystander := g.dial(t)
		pong(t, bystander)
		broken.Store(true)
		hit, err := net.Dial("tcp", g.addr)
		if err == nil { // the reset may be faster
			_, _ = hit.Write([]byte("x"))
			_, err = io.ReadAll(hit)
			_ = hit.Close()
		}
		if err == nil {
			t.Errorf("%s: what was broken off looks complete", where)
		}
		if e := g.ending(t); !errors.Is(e.err, errFault) {
			t.Errorf("%s: ended with %v", where, e.err)
		}
		if n := panics.Load(); n != 1 {
			t.Errorf("%s: %d panics", where, n)
		}
		broken.Store(false)
		pong(t, bystander)
		pong(t, g.dial(t))
	}
}

func pong(t *testing.T, conn net.Conn) {
	t.Helper()
	_, _ = conn.Write([]byte("x"))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Errorf("another connection: %v", err)
	}
}
