package tcp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"sluice/gateway/tcp"
)

// duplex is a connection in memory that can be half closed.
type duplex struct {
	net.Conn // to read from
	out      net.Conn
}

func newDuplex() (a, b duplex) {
	readA, writeB := net.Pipe()
	readB, writeA := net.Pipe()
	return duplex{readA, writeA}, duplex{readB, writeB}
}

func (d duplex) Write(p []byte) (int, error) { return d.out.Write(p) }
func (d duplex) CloseWrite() error           { return d.out.Close() }

// SetReadDeadline works on what has ended, as with a socket.
func (d duplex) SetReadDeadline(at time.Time) error {
	_ = d.Conn.SetReadDeadline(at)
	return nil
}

func (d duplex) Close() error { _ = d.out.Close(); return d.Conn.Close() }

func TestAHalfClosedConnectionEndsWhenNothingMoves(t *testing.T) {
	const minutes = 60
	for name, test := range map[string]struct {
		idle     time.Duration
		upstream func(duplex)
		ends     error
		from, to time.Duration
	}{
		"the other side never ends": {0, func(d duplex) { _, _ = io.Copy(io.Discard, d) }, tcp.ErrIdle, tcp.DefaultHalfClosed, tcp.DefaultHalfClosed * 5 / 4},
		"nobody takes the answer":   {0, func(d duplex) { _, _ = d.Write(make([]byte, 10)) }, tcp.ErrIdle, tcp.DefaultHalfClosed, tcp.DefaultHalfClosed * 5 / 4},
		"a bound of its own":        {time.Minute, func(d duplex) { _, _ = d.Write(make([]byte, 10)) }, tcp.ErrIdle, time.Minute, 75 * time.Second},
		"a slow answer": {0, func(d duplex) {
			for range minutes / 4 {
				time.Sleep(4 * time.Minute) // virtual
				_, _ = d.Write([]byte("taken"))
			}
			_ = d.Close()
		}, nil, minutes * time.Minute, minutes * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ends := make(chan ended, 1)
				far, near := newDuplex()
				server := tcp.New(tcp.Config{
					Idle: test.idle, Ended: func(info tcp.Info, err error) { ends <- ended{info, err} },
					Route: func(context.Context, tcp.Call) (tcp.Target, error) {
						return tcp.Target{Dial: func(context.Context) (net.Conn, error) { return near, nil }}, nil
					},
				})
				ctx, cancel := context.WithCancel(t.Context())
				listener, done := make(memory), make(chan error, 1)
				go func() { done <- server.Serve(ctx, listener) }()
				client, accepted := newDuplex()
				listener <- accepted
				begin := time.Now()
				go test.upstream(far)
				if test.ends == nil {
					go func() { _, _ = io.Copy(io.Discard, client) }()
				}
				_ = client.CloseWrite()
				e := <-ends
				if took := time.Since(begin); !errors.Is(e.err, test.ends) || took < test.from || took > test.to {
					t.Errorf("ended after %s with %v, want %v after %s to %s", took, e.err, test.ends, test.from, test.to)
				}
				if n := server.Table().Counters().Idle; (n == 1) != (test.ends != nil) {
					t.Errorf("%d are counted as idle", n)
				}
				_ = client.Close()
				_ = far.Close()
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestAClientThatHasEndedAndTakesNothingIsLetGo(t *testing.T) {
	address := instance(t, func(conn *net.TCPConn) {
		for data := make([]byte, 1<<20); ; {
			if _, err := conn.Write(data); err != nil {
				return
			}
		}
	})
	g := start(t, tcp.Config{Route: to(address), Idle: 200 * time.Millisecond})
	conn := g.dial(t)
	_ = conn.CloseWrite()
	if e := g.ending(t); !errors.Is(e.err, tcp.ErrIdle) {
		t.Errorf("ended with %v", e.err)
	}
}
