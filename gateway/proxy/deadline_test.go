package proxy

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// onPipe runs a test with an upstream connection in time of its own.
func onPipe(t *testing.T, run func(t *testing.T, c *conn, peer net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		run(t, &conn{Conn: near}, far)
	})
}

// reads reads once, and says what came and after how long.
func (c *conn) reads() (string, time.Duration, error) {
	began := time.Now()
	p := make([]byte, 16)
	n, err := c.Read(p)
	return string(p[:n]), time.Since(began), err
}

func TestAHeadMayComeAfterALookAtTheClientAndNotAfterItsTime(t *testing.T) {
	const lookedAt, whole = time.Second, 10 * time.Second
	for _, c := range []struct {
		name string
		// after is when the rest of the head comes, 0 is never.
		after, want time.Duration
		text        string
	}{
		{"between", 5 * time.Second, 5 * time.Second, "rest"},
		{"never", 0, whole, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			onPipe(t, func(t *testing.T, up *conn, peer net.Conn) {
				up.headBy = time.Now().Add(whole)
				if err := up.readWithin(time.Now(), time.Now().Add(lookedAt)); err != nil {
					t.Fatal(err)
				}
				if c.after > 0 {
					go func() {
						time.Sleep(c.after)
						_, _ = peer.Write([]byte("rest"))
					}()
				}
				text, took, err := up.reads()
				if text != c.text || took != c.want || (err != nil) != (c.text == "") {
					t.Errorf("read %q after %v (%v), want %q after %v", text, took, err, c.text, c.want)
				}
				if c.text == "" && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("it ended with %v, want a deadline that has passed", err)
				}
			})
		})
	}
}

func TestAnAttemptThatNobodyWaitsForEndsThoughItsDeadlineIsMoved(t *testing.T) {
	onPipe(t, func(t *testing.T, up *conn, _ net.Conn) {
		up.headBy = time.Now().Add(time.Hour)
		up.stop()
		if _, took, err := up.reads(); took != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the read ended after %v with %v, want at once", took, err)
		}
	})
}

// TestDeadlinesAreMovedOnlyWhenTheyLieElsewhere: what is set must hold nevertheless.
func TestDeadlinesAreMovedOnlyWhenTheyLieElsewhere(t *testing.T) {
	onPipe(t, func(t *testing.T, up *conn, _ net.Conn) {
		counted := &moves{Conn: up.Conn}
		up.Conn = counted
		const timeout = 40 * time.Second
		for range 100 { // requests, for 50 seconds
			now := time.Now()
			if err := errors.Join(up.writeFrom(now.Add(timeout), timeout), up.readWithin(now.Add(look*3/4), now.Add(look))); err != nil {
				t.Fatal(err)
			}
			if left := up.writeBy.Sub(now); left < timeout || left > timeout*5/4 {
				t.Fatalf("a write may take %v, want %v or up to a quarter more", left, timeout)
			}
			if left := up.readBy.Sub(now); left < look*3/4 || left > look {
				t.Fatalf("the client is looked at after %v, want %v or up to a quarter less", left, look)
			}
			time.Sleep(500 * time.Millisecond)
		}
		if counted.writes > 6 {
			t.Errorf("the deadline of writes was moved %d times, want once in 10 s", counted.writes)
		}
	})
}

// moves counts how often a deadline is moved.
type moves struct {
	net.Conn
	writes int
}

func (m *moves) SetWriteDeadline(t time.Time) error {
	m.writes++
	return m.Conn.SetWriteDeadline(t)
}
