package listen_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/listen"
)

// long is a drain that no test waits for.
const long = time.Minute

// slow answers once it is told to.
type slow struct {
	begun, goOn chan struct{}
	// cut, if not nil, is what it waits for when its context ends: who is told of the
	// end by that could answer before the connection goes.
	cut func() bool
}

func newSlow() *slow { return &slow{begun: make(chan struct{}, 10), goOn: make(chan struct{})} }

func (s *slow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.begun <- struct{}{}
	select {
	case <-s.goOn:
		_, _ = io.WriteString(w, "done")
	case <-r.Context().Done():
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for ends := time.Now().Add(10 * time.Second); s.cut != nil && !s.cut() && time.Now().Before(ends); {
			<-ticker.C
		}
	}
}

func (s *slow) own(ctx context.Context, conn net.Conn, _ listen.Info) {
	defer conn.Close()
	buffer := make([]byte, 1024)
	if ctx.Err() != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Read(buffer); err != nil || !stop() {
		return
	}
	s.begun <- struct{}{}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = conn.SetReadDeadline(time.Time{})
		_, _ = conn.Read(buffer[:1])
	}()
	select {
	case <-s.goOn:
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndone")
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	case <-gone:
	}
	<-gone
}

func schemeOf(spec string) (string, *tls.Config) {
	if strings.HasPrefix(spec, "certs") {
		return "https://", insecure()
	}
	return "http://", nil
}

func TestAStopLetsEndWhatIsInFlightAndClosesWhatIsIdle(t *testing.T) {
	spec, _, _ := certs(t)
	for _, test := range []struct {
		name, spec string
		own, http2 bool
	}{
		{"own codec", "proto=http", true, false},
		{"net/http", "proto=http", false, false},
		{"own codec over TLS", spec, true, false},
		{"HTTP/2", spec, true, true},
		{"HTTP/2 without TLS", "h2c=true", true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			handler := newSlow()
			cfg := listen.Config{Std: handler, Drain: long}
			if test.own {
				cfg.Own = handler.own
			}
			s := start(t, test.spec, cfg)
			scheme, config := schemeOf(test.spec)
			answer := make(chan string, 1)
			go func() { answer <- get(client(t, test.http2, config), scheme+s.addr) }()
			<-handler.begun
			var idle net.Conn
			if config != nil {
				idle = tls.Client(dial(t, s.addr), insecure())
				if err := idle.(*tls.Conn).Handshake(); err != nil {
					t.Fatal(err)
				}
			} else if test.own && !test.http2 {
				idle = dial(t, s.addr)
			}
			eventually(t, "both are known", func() bool { return idle == nil || s.Snapshot().Open == 2 })
			s.halt()
			if idle != nil && test.own {
				if err := ends(idle); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the idle connection stays")
				}
			}
			eventually(t, "nobody listens", func() bool {
				conn, err := net.Dial("tcp", s.addr)
				if err == nil {
					_ = conn.Close()
				}
				return err != nil && s.Snapshot().Draining
			})
			close(handler.goOn)
			if got := <-answer; got != "done" {
				t.Errorf("got %q", got)
			}
			if err := s.stop(); err != nil || s.Snapshot().Cut != 0 || s.Snapshot().Open != 0 {
				t.Errorf("got %v, %+v", err, s.Snapshot())
			}
		})
	}
}

func TestWhatOutlivesTheDrainIsCut(t *testing.T) {
	spec, _, _ := certs(t)
	for _, test := range []struct {
		name, spec string
		own, http2 bool
	}{
		{"own codec", "proto=http", true, false},
		{"net/http", "proto=http", false, false},
		{"HTTP/2", spec, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			handler := newSlow()
			cfg := listen.Config{Std: handler, Drain: 20 * time.Millisecond}
			if test.own {
				cfg.Own = handler.own
			}
			s := start(t, test.spec, cfg)
			handler.cut = func() bool { return s.Snapshot().Cut == 1 }
			scheme, config := schemeOf(test.spec)
			answer := make(chan string, 1)
			go func() { answer <- get(client(t, test.http2, config), scheme+s.addr) }()
			<-handler.begun
			if err := s.stop(); err != nil || s.Snapshot().Cut != 1 || s.Snapshot().Open != 0 {
				t.Errorf("got %v, %+v", err, s.Snapshot())
			}
			if got := <-answer; got == "done" || got == "" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestAHijackedConnectionIsWaitedForAndThenCut(t *testing.T) {
	hijacked := make(chan struct{})
	var served sync.WaitGroup
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		served.Add(1)
		defer served.Done()
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		close(hijacked)
		_, _ = io.Copy(io.Discard, conn)
	})
	s := start(t, "proto=http", listen.Config{Std: handler, Drain: 20 * time.Millisecond})
	conn := dialAndSend(t, s.addr, request)
	<-hijacked
	if err := s.stop(); err != nil || s.Snapshot().Cut != 1 {
		t.Errorf("got %v, %+v", err, s.Snapshot())
	}
	served.Wait()
	if err := ends(conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection stays")
	}
}

func TestAHandshakeThatHangsDoesNotHoldUpAStop(t *testing.T) {
	spec, _, _ := certs(t)
	for _, spec := range []string{spec + ";handshake=1m", "h2c=true"} {
		s := start(t, spec, listen.Config{Std: says("std"), Own: own, Header: long, Drain: long})
		conn := dial(t, s.addr)
		eventually(t, "it is in", func() bool { return s.Snapshot().Open == 1 })
		ended := make(chan error, 1)
		go func() { ended <- s.stop() }()
		select {
		case err := <-ended:
			if err != nil || s.Snapshot().Cut != 0 {
				t.Errorf("%s: got %v, %+v", spec, err, s.Snapshot())
			}
		case <-time.After(long / 2):
			t.Fatalf("%s: it is waited for", spec)
		}
		_ = conn.Close()
	}
}

func TestStreamsAreDrainedAndThenCut(t *testing.T) {
	s := start(t, "proto=tcp", listen.Config{TCP: echoTo(t), Drain: 20 * time.Millisecond})
	conn := dial(t, s.addr)
	if got := ask(t, conn, "a\n"); got != "a" {
		t.Fatal(got)
	}
	if err := s.stop(); err != nil || s.Snapshot().Open != 0 {
		t.Errorf("got %v, %+v", err, s.Snapshot())
	}
	if err := ends(conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection stays")
	}
}

// TestManyConnectionsLeaveNothingBehind counts descriptors; TestMain counts
// goroutines.
func TestManyConnectionsLeaveNothingBehind(t *testing.T) {
	spec, _, _ := certs(t)
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	s := start(t, spec+";maxconn=50", listen.Config{Std: says("std"), Own: own})
	before := descriptors()
	var clients sync.WaitGroup
	for worker := range 8 {
		clients.Go(func() {
			for i := range 40 {
				conn, err := net.Dial("tcp", s.addr)
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.SetDeadline(time.Now().Add(patience))
				session := tls.Client(conn, insecure())
				switch (worker + i) % 4 {
				case 0: // leaves at once
				case 1:
					_ = session.Handshake()
				case 2:
					_, _ = io.WriteString(conn, "no hello")
				default:
					_, _ = io.WriteString(session, request)
					_, _ = session.Read(make([]byte, 10))
				}
				_ = conn.Close()
			}
		})
	}
	clients.Wait()
	// A client may be gone before it was accepted.
	eventually(t, "all were seen", func() bool { shot := s.Snapshot(); return shot.Accepted+shot.Refused == 320 })
	eventually(t, "all have left", func() bool { return s.Snapshot().Open == 0 })
	eventually(t, "descriptors are back", func() bool { return descriptors() <= before })
}

func TestTheLifeOfAConnectionOutlivesAStopByTheDrain(t *testing.T) {
	for _, test := range []struct {
		drain time.Duration
		waits bool // for the end of its life
	}{{long, false}, {20 * time.Millisecond, true}} {
		begun, stopped := make(chan struct{}), make(chan error, 1)
		s := start(t, "proto=http", listen.Config{Std: newSlow(), Drain: test.drain, Own: func(ctx context.Context, conn net.Conn, info listen.Info) {
			defer conn.Close()
			close(begun)
			<-ctx.Done()
			if test.waits {
				<-info.Life.Done()
			}
			stopped <- info.Life.Err()
		}})
		dial(t, s.addr)
		<-begun
		s.halt()
		if err := <-stopped; (err != nil) != test.waits {
			t.Errorf("with a drain of %v: %v", test.drain, err)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}
}
