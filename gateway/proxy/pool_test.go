package proxy

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"sluice/gateway/h1"
)

// A burst leaves many connections; later requests use the last of them alone.
func TestConnectionsThatABurstHasLeftAreClosedWhenTheyAreIdleForTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &idle{keep: time.Minute, most: 10}
		pool := h1.NewPool()
		var ends []net.Conn
		for range 4 {
			near, far := net.Pipe()
			defer far.Close()
			up := &conn{Conn: near}
			up.reader, up.writer = pool.NewReader(up, h1.Limits{}), pool.NewWriter(up)
			ends = append(ends, far)
			i.give(up, time.Now())
		}
		time.Sleep(40 * time.Second)
		last := i.conns[3]
		i.conns = i.conns[:3]
		i.give(last, time.Now()) // it has carried a request
		i.sweep(time.Now())
		if len(i.conns) != 4 {
			t.Fatalf("%d connections are left before their time, want 4", len(i.conns))
		}
		time.Sleep(20 * time.Second)
		i.sweep(time.Now())
		if len(i.conns) != 1 || i.conns[0] != last {
			t.Fatalf("%d connections are left, want the last one", len(i.conns))
		}
		for n, end := range ends {
			_ = end.SetReadDeadline(time.Now().Add(time.Second))
			_, err := end.Read(make([]byte, 1))
			if closed := !isTimeout(err); closed != (n < 3) {
				t.Errorf("connection %d: %v", n, err)
			}
		}
		time.Sleep(time.Minute)
		i.sweep(time.Now())
		if i.conns != nil {
			t.Error("the last one is kept for ever")
		}
	})
}

// Nobody has to ask for anything, and the look itself is rare.
func TestTheFollowerSweepsNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{}
		w.own.keep, w.own.most = time.Minute, 10
		near, far := net.Pipe()
		defer far.Close()
		up := &conn{Conn: near}
		up.reader, up.writer = h1.NewReader(up, h1.Limits{}), h1.NewWriter(up)
		w.own.give(up, time.Now())
		f := &follower{Proxy: &Proxy{metrics: newMetrics("x", nil)}, fleet: fleet{crews: map[string]*crew{"web": {targets: map[targetKey]*target{{}: {wires: map[manner]*wire{{}: w}}}}}}}
		f.sweep(time.Now())
		time.Sleep(time.Minute)
		f.sweep(time.Now())
		if len(w.own.conns) != 0 {
			t.Error("it is still there")
		}
		w.own.give(up, time.Now().Add(-time.Hour))
		f.sweep(time.Now().Add(sweepEvery - 1))
		if len(w.own.conns) != 1 {
			t.Error("it was looked at too often")
		}
	})
}
