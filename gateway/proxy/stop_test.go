package proxy_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/proxy"
	"sluice/gateway/tcp"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

// held is a dialer whose first dial waits until it may go on, and fails if it shall.
type held struct {
	proxy.Dialer
	dials       atomic.Int64
	begun, goOn chan struct{}
	fail        error
}

func (h *held) DialInstance(ctx context.Context, instance mesh.Instance) (*mesh.Conn, error) {
	if h.dials.Add(1) > 1 {
		return h.Dialer.DialInstance(ctx, instance)
	}
	close(h.begun)
	select {
	case <-h.goOn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if h.fail != nil {
		return nil, h.fail
	}
	return h.Dialer.DialInstance(ctx, instance)
}

// stopping serves one request of a client, and returns what it has got so far, the
// answer, what begins the stop, and what cuts the connections when the drain is over.
func stopping(t *testing.T, l *lab) (so *lines, answer <-chan string, stop, cut context.CancelFunc) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	life, end := context.WithCancelCause(context.Background())
	cut = func() { end(tcp.ErrDrained) }
	serving, stop := context.WithCancel(life)
	ended, got := make(chan struct{}), make(chan string, 1)
	go func() {
		defer close(ended)
		l.Own(proxy.OwnConfig{}).Serve(serving, conn, proxy.Connection{Life: life})
	}()
	t.Cleanup(func() { cut(); _ = client.Close(); <-ended })
	if _, err := io.WriteString(client, "GET /web HTTP/1.1\r\nHost: a.example\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	so = &lines{}
	go func() {
		_, _ = io.Copy(so, client)
		text := so.String()
		got <- text[:min(len(text), 12)]
	}()
	return so, got, stop, cut
}

func TestARequestThatIsBeingConnectedWhenAStopBeginsIsAnswered(t *testing.T) {
	onlyOwn(t)
	for _, fails := range []error{nil, &net.OpError{Op: "dial", Err: io.ErrUnexpectedEOF}} {
		world := meshtest.New(t)
		world.Policy.Set(allowWeb)
		for _, node := range []string{"web-1", "web-2"} {
			serve(world, "web", node, func(http.ResponseWriter, *http.Request) {}, "urlprefix-/web")
		}
		dialer := &held{Dialer: world.Dialer("gateway", nil), begun: make(chan struct{}), goOn: make(chan struct{}), fail: fails}
		_, answer, stop, _ := stopping(t, with(t, world, proxy.Config{Dialer: dialer, Policy: world.Policy}))
		<-dialer.begun
		stop()
		close(dialer.goOn)
		if got := <-answer; got != "HTTP/1.1 200" {
			t.Errorf("the first dial failing with %v: got %q", fails, got)
		}
	}
}

func TestARequestThatIsStillBeingConnectedWhenTheDrainIsOverIsCut(t *testing.T) {
	onlyOwn(t)
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", func(http.ResponseWriter, *http.Request) {}, "urlprefix-/web")
	dialer := &held{Dialer: world.Dialer("gateway", nil), begun: make(chan struct{}), goOn: make(chan struct{})}
	_, answer, stop, cut := stopping(t, with(t, world, proxy.Config{Dialer: dialer, Policy: world.Policy}))
	<-dialer.begun
	stop()
	cut()
	if got := <-answer; got != "" {
		t.Errorf("got %q", got)
	}
}

func TestAnAnswerThatPausesWhenTheDrainIsOverIsCutAtOnceAndLoggedSo(t *testing.T) {
	onlyOwn(t)
	for name, c := range map[string]struct{ begins, got string }{
		"a body":   {"Content-Length: 9\r\n\r\nhello", "hello"},
		"chunks":   {"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "hello"},
		"events":   {"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "hello"},
		"no piece": {"Content-Length: 9\r\n\r\n", "\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			world := meshtest.New(t)
			world.Policy.Set(allowWeb)
			instanceOf(world, "web-1", func(conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+c.begins)
					_, _ = io.Copy(io.Discard, conn)
				}
			}, "urlprefix-/web")
			l, log := logged(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy}, `$request_uri $flags "$reason"`)
			so, answer, stop, cut := stopping(t, l)
			meshtest.Wait(t, "the client has what has come", func() bool { return strings.Contains(so.String(), c.got) })
			stop()
			began := time.Now()
			cut()
			select {
			case <-answer:
			case <-time.After(3 * time.Second): // an event stream's client is looked at after 5 s
				t.Fatalf("the answer goes on %v after the end of the drain", time.Since(began))
			}
			const want = `/web DR "call web-web-1: the gateway is stopping`
			if line := log.has(t, "/web "); !strings.HasPrefix(line, want) {
				t.Errorf("got %s, want %s", line, want)
			}
		})
	}
}
