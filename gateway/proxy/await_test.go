package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// resting is a connection to an Own that takes one for idle after milliseconds, as it
// does among very many.
type resting struct {
	*testing.T
	proxy  *Proxy
	client net.Conn
	reader *bufio.Reader
	stop   context.CancelFunc
	ended  chan struct{}
}

func newResting(t *testing.T, secure bool, cfg OwnConfig) *resting {
	t.Helper()
	r := &resting{T: t, proxy: New(Config{HealthPath: "/up"}), ended: make(chan struct{})}
	own := r.proxy.Own(cfg)
	own.bursts.Store(keepBuffers * 1000)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if r.client, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.client.Close() })
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if secure {
		server := httptest.NewTLSServer(nil)
		arrived := tls.Server(conn, server.TLS)
		server.Close()
		session := tls.Client(r.client, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		shaken := make(chan error, 1)
		go func() { shaken <- arrived.HandshakeContext(t.Context()) }() // before it is served, as in package listen
		if err := errors.Join(session.HandshakeContext(t.Context()), <-shaken); err != nil {
			t.Fatal(err)
		}
		conn, r.client = arrived, session
	}
	r.reader = bufio.NewReader(r.client)
	var ctx context.Context
	ctx, r.stop = context.WithCancel(t.Context())
	t.Cleanup(func() { r.stop(); <-r.ended })
	go func() {
		defer close(r.ended)
		own.Serve(ctx, conn, Connection{TLS: secure})
	}()
	return r
}

// ask sends a request and reads its answer.
func (r *resting) ask() {
	r.Helper()
	if _, err := io.WriteString(r.client, "GET /up HTTP/1.1\r\nHost: a.example\r\n\r\n"); err != nil {
		r.Fatal(err)
	}
	answer, err := http.ReadResponse(r.reader, nil)
	if err != nil {
		r.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		r.Fatal(answer.StatusCode, err)
	}
}

// rests waits until the connection has become idle for the nth time.
func (r *resting) rests(n int64) {
	r.Helper()
	for deadline := time.Now().Add(10 * time.Second); r.proxy.rested.Load() < n; {
		if time.Now().After(deadline) {
			r.Fatal("the connection is not taken for idle")
		}
		select {
		case <-r.ended:
			r.Fatal("the connection has ended")
		case <-time.After(time.Millisecond):
		}
	}
}

// closed waits until the connection was closed, and Serve has returned.
func (r *resting) closed() {
	r.Helper()
	_ = r.client.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := r.reader.ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		r.Fatalf("the client reads %v, want an end", err)
	}
	<-r.ended
}

func forBoth(t *testing.T, run func(*testing.T, bool)) {
	t.Run("plain", func(t *testing.T) { run(t, false) })
	t.Run("TLS", func(t *testing.T) { run(t, true) })
}

func TestAConnectionThatHasBecomeIdleIsServedAgain(t *testing.T) {
	forBoth(t, func(t *testing.T, secure bool) {
		r := newResting(t, secure, OwnConfig{})
		for n := range int64(3) {
			r.ask()
			r.rests(n + 1)
		}
		r.ask()
	})
}

func TestAStopClosesAConnectionThatHasBecomeIdle(t *testing.T) {
	forBoth(t, func(t *testing.T, secure bool) {
		r := newResting(t, secure, OwnConfig{})
		r.ask()
		r.rests(1)
		r.stop()
		r.closed()
	})
}

func TestAConnectionThatStaysIdleForTooLongIsClosed(t *testing.T) {
	forBoth(t, func(t *testing.T, secure bool) {
		r := newResting(t, secure, OwnConfig{Idle: 200 * time.Millisecond})
		r.ask()
		r.rests(1)
		r.closed()
	})
}

func TestAClientThatLeavesWhileIdleIsNoticed(t *testing.T) {
	forBoth(t, func(t *testing.T, secure bool) {
		r := newResting(t, secure, OwnConfig{})
		r.ask()
		r.rests(1)
		_ = r.client.Close()
		<-r.ended
	})
}
