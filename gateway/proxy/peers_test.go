package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

const (
	short = 100 * time.Millisecond
	// done ends the connection behind the request.
	done = "Connection: close\r\n\r\n"
)

// impatient serves the lab's gateway on a port of its own with time-outs that are
// short; wrap makes something else of a connection.
func (l *lab) impatient(t *testing.T, cfg proxy.OwnConfig, wrap func(net.Conn) net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	own := l.Own(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				if wrap != nil {
					conn = wrap(conn)
				}
				own.Serve(ctx, conn, proxy.Connection{TLS: wrap != nil})
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		running.Wait()
	})
	l.url = "http://" + listener.Addr().String()
}

// onlyOwn skips what net/http has other bounds for: those of an http.Server.
func onlyOwn(t *testing.T) {
	t.Helper()
	if withStd() {
		t.Skip("the bounds of net/http are its server's")
	}
}

func TestAHeadThatStopsIsCut(t *testing.T) {
	onlyOwn(t)
	r := &tape{}
	l := rawLab(t, r.talk, proxy.Config{})
	l.impatient(t, proxy.OwnConfig{Header: short}, nil)
	if got := l.raw(t, "GET / HTTP/1.1\r\nHost: x\r\nA: "); got != "" {
		t.Errorf("half a head is answered with %q", got)
	}
	if got := r.take(); len(got) > 0 {
		t.Errorf("the instance got %q", got)
	}
}

func TestABodyThatStopsIsAnsweredAndTheInstanceSeesThatItIsBroken(t *testing.T) {
	onlyOwn(t)
	r := &tape{}
	l := rawLab(t, r.talk, proxy.Config{})
	l.impatient(t, proxy.OwnConfig{BodyIdle: short}, nil)
	for _, start := range []string{"Content-Length: 100\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"} {
		got := l.raw(t, "POST / HTTP/1.1\r\nHost: x\r\n"+start)
		if !strings.HasPrefix(got, "HTTP/1.1 408 ") || !strings.Contains(got, "\r\nConnection: close\r\n") {
			t.Errorf("answered with %.200q, want 408 and the end", got)
		}
	}
	meshtest.Wait(t, "the instance has seen the ends", func() bool { return r.live.Load() == 0 })
	for _, wire := range r.take() {
		if list, rest := split(wire); len(list) > 0 || !strings.HasSuffix(rest, "hello") && !strings.HasSuffix(rest, "hello\r\n") {
			t.Errorf("the instance got %q", wire)
		}
	}
}

func TestAnAnswerThatTheClientDoesNotReadEnds(t *testing.T) {
	onlyOwn(t)
	ended := make(chan struct{})
	l := rawLab(t, func(conn net.Conn) {
		defer close(ended)
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		for err == nil {
			_, err = conn.Write(make([]byte, 64<<10))
		}
	}, proxy.Config{})
	l.impatient(t, proxy.OwnConfig{Write: short}, nil)
	conn := l.dial(t)
	_ = conn.SetReadBuffer(4 << 10)
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	within(t, ended, "the instance can stop")
}

// within waits for something to happen.
func within(t *testing.T, happened <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-happened:
	case <-time.After(soon):
		t.Fatalf("not within %v: %s", soon, what)
	}
}

func TestAnInstanceLearnsThatItsClientHasLeft(t *testing.T) {
	t.Run("plain", func(t *testing.T) { leaves(t, false) })
	t.Run("TLS", func(t *testing.T) { onlyOwn(t); leaves(t, true) }) // its last words are bytes too
}

func leaves(t *testing.T, secure bool) {
	asked, left := make(chan struct{}), make(chan struct{})
	l := rawLab(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		if _, err := http.ReadRequest(in); err != nil {
			return
		}
		close(asked)
		_, _ = in.ReadByte()
		close(left)
	}, proxy.Config{})
	var conn net.Conn = l.dial(t)
	if secure {
		l.secure(t)
		conn = tls.Client(l.dial(t), &tls.Config{InsecureSkipVerify: true})
	}
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	within(t, asked, "the instance is asked")
	began := time.Now()
	_ = conn.Close()
	within(t, left, "the instance learns of it")
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the instance has learnt of it after %v", took)
	}
}

// secure serves the lab's gateway over TLS.
func (l *lab) secure(t *testing.T) {
	t.Helper()
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	t.Cleanup(certified.Close)
	l.impatient(t, proxy.OwnConfig{}, func(conn net.Conn) net.Conn {
		secure := tls.Server(conn, &tls.Config{Certificates: certified.TLS.Certificates})
		_ = secure.HandshakeContext(t.Context())
		return secure
	})
}

func TestABrokenInstanceIsReportedAsWhatItIs(t *testing.T) {
	reset := func(conn net.Conn) {
		for {
			inner, ok := conn.(interface{ NetConn() net.Conn })
			if !ok {
				break
			}
			conn = inner.NetConn()
		}
		if socket, ok := conn.(*net.TCPConn); ok {
			_ = socket.SetLinger(0)
			_ = socket.Close()
		}
	}
	write := func(text string) func(net.Conn) {
		return func(conn net.Conn) { _, _ = io.WriteString(conn, text) }
	}
	for _, c := range []struct {
		name  string
		react func(net.Conn)
		want  []int
	}{
		{"says nothing", func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }, []int{504}},
		{"ends at once", func(net.Conn) {}, []int{502}},
		{"resets at once", reset, []int{502}},
		{"ends after half a head", write("HTTP/1.1 200 OK\r\nContent-Le"), []int{502}},
		{"ends within the body", write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"), []int{0}},
		{"ends within a chunk", write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello"), []int{0}},
		// Whether the head got through is the network's business.
		{"resets within the body", func(conn net.Conn) {
			write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")(conn)
			reset(conn)
		}, []int{0, 502}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := rawLab(t, func(conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					c.react(conn)
				}
			}, proxy.Config{Timeout: 2 * short})
			// A POST is not asked again.
			conn := l.dial(t)
			fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
			got := listenTo(t, bufio.NewReader(conn), "POST")
			if got.broken {
				got.status = 0
			}
			if got.status != c.want[0] && got.status != c.want[len(c.want)-1] {
				t.Errorf("the client got %+v, want %v, where 0 is a broken answer", got, c.want)
			}
		})
	}
}

// TestAnInstanceThatFailsDuringAnUploadIsNotTheClientsFault: the client pauses, and is
// not to blame.
func TestAnInstanceThatFailsDuringAnUploadIsNotTheClientsFault(t *testing.T) {
	onlyOwn(t) // net/http reads the rest of the body before it answers
	l := rawLab(t, func(conn net.Conn) { _, _ = http.ReadRequest(bufio.NewReader(conn)) }, proxy.Config{})
	conn := l.dial(t)
	fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhello")
	if got := listenTo(t, bufio.NewReader(conn), "POST"); got.status != http.StatusBadGateway {
		t.Errorf("the client got %d %q, want 502", got.status, got.body)
	}
}

// TestARefusalIsReadByAClientThatIsStillSending would fail if the gateway reset a
// connection on which the client is still busy: the refusal would be lost.
func TestARefusalIsReadByAClientThatIsStillSending(t *testing.T) {
	onlyOwn(t) // net/http reads the rest of the body before it answers
	const large = 256 << 10
	for name, first := range map[string]string{"by the instance": "/", "by the gateway": "/../"} {
		t.Run(name, func(t *testing.T) {
			l := rawLab(t, func(conn net.Conn) {
				in := bufio.NewReader(conn)
				if _, err := http.ReadRequest(in); err == nil {
					_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
					_, _ = io.Copy(io.Discard, in)
				}
			}, proxy.Config{})
			conn := l.dial(t)
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", first, 2*large) // it will not be over
			for range large / (64 << 10) {
				if _, err := conn.Write(make([]byte, 64<<10)); err != nil {
					break
				}
			}
			reader := bufio.NewReader(conn)
			if got := listenTo(t, reader, "POST"); got.status != 413 && got.status != 400 || got.broken {
				t.Errorf("the client got %+v", got)
			}
			if _, err := reader.ReadByte(); err != io.EOF {
				t.Errorf("the connection ended with %v", err)
			}
		})
	}
}

// TestAnInstanceThatAnswersAndReadsNothingHoldsNobodyUp: the client has sent more than
// fits on the way, so that the gateway is stuck with it.
func TestAnInstanceThatAnswersAndReadsNothingHoldsNobodyUp(t *testing.T) {
	onlyOwn(t)
	stuck, over := make(chan struct{}), make(chan struct{})
	l := rawLab(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			<-stuck
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			<-over
		}
	}, proxy.Config{})
	defer close(over)
	conn := l.dial(t)
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 1<<30)
	var err error
	for piece := make([]byte, 64<<10); err == nil; _, err = conn.Write(piece) {
		_ = conn.SetWriteDeadline(time.Now().Add(2 * short))
	}
	close(stuck)
	reader := bufio.NewReader(conn)
	if got := listenTo(t, reader, "POST"); got.status != http.StatusOK || got.body != "ok" {
		t.Errorf("the client got %+v", got)
	}
	began := time.Now()
	_, _ = reader.ReadByte()
	if took := time.Since(began); took > soon/2 {
		t.Errorf("the connection has ended after %v", took)
	}
}

// together holds back what a client writes from its second flight on until it has
// something to ask: the end of the handshake and the request arrive at once.
type together struct {
	net.Conn
	flights int
	held    []byte
}

func (c *together) Write(p []byte) (int, error) {
	if c.flights++; c.flights == 1 {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

func TestARequestThatComesWithTheEndOfTheHandshakeIsAnswered(t *testing.T) {
	onlyOwn(t)
	r := &tape{}
	l := rawLab(t, r.talk, proxy.Config{})
	l.secure(t)
	conn := &together{Conn: l.dial(t)}
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if err := secure.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(secure, "GET / HTTP/1.1\r\nHost: x\r\n"+done)
	if _, err := conn.Conn.Write(conn.held); err != nil {
		t.Fatal(err)
	}
	if got := listenTo(t, bufio.NewReader(secure), "GET"); got.status != http.StatusNoContent {
		t.Errorf("the client got %+v", got)
	}
}

func TestAThousandClientsLeaveNothingBehind(t *testing.T) {
	l := rawLab(t, (&tape{}).talk, proxy.Config{})
	manners := []func(*net.TCPConn){
		func(*net.TCPConn) {},
		func(c *net.TCPConn) { fmt.Fprint(c, "GET / HT") },
		func(c *net.TCPConn) { fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") }, // and does not read
		func(c *net.TCPConn) {
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n"+done)
			_, _ = io.Copy(io.Discard, c)
		},
		func(c *net.TCPConn) { fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhello") },
		func(c *net.TCPConn) { fmt.Fprint(c, "nonsense\r\n\r\n"); _ = c.SetLinger(0) },
	}
	before, files := runtime.NumGoroutine(), openFiles(t)
	var clients sync.WaitGroup
	for i := range 20 {
		clients.Go(func() {
			for j := range 50 {
				conn, err := net.Dial("tcp", strings.TrimPrefix(l.url, "http://"))
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.SetDeadline(time.Now().Add(soon))
				manners[(i+j)%len(manners)](conn.(*net.TCPConn))
				_ = conn.Close()
			}
		})
	}
	clients.Wait()
	// Connections to the instance stay, for the next: as many as there were requests at
	// a time, which is more than clients, because some leave before theirs has ended.
	meshtest.Wait(t, "goroutines and files are back", func() bool {
		return runtime.NumGoroutine() <= before+6*50 && openFiles(t) <= files+2*50
	})
}

// openFiles returns how many file descriptors the process has.
func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	return len(list)
}

// TestTimesHoldOnAConnectionThatWasUsedBefore: deadlines are not set anew for each
// request, so those of the one before must not count for the next.
func TestTimesHoldOnAConnectionThatWasUsedBefore(t *testing.T) {
	onlyOwn(t)
	ok := func(conn net.Conn, requests *bufio.Reader) bool {
		_, err := http.ReadRequest(requests)
		return err == nil && second(io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) == nil
	}
	t.Run("to an instance", func(t *testing.T) {
		l := rawLab(t, func(conn net.Conn) {
			requests := bufio.NewReader(conn)
			if ok(conn, requests) && second(http.ReadRequest(requests)) == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Le")
				_, _ = io.Copy(io.Discard, conn)
			}
		}, proxy.Config{Timeout: 5 * short})
		conn := l.dial(t)
		answers := bufio.NewReader(conn)
		for _, want := range []int{200, 504} {
			began := time.Now()
			fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
			got := listenTo(t, answers, "POST")
			if took := time.Since(began); got.status != want || want == 504 && took < 5*short {
				t.Errorf("%+v after %v, want %d, and no time-out before %v", got, took, want, 5*short)
			}
		}
	})
	t.Run("to an instance that pauses in a head", func(t *testing.T) {
		l := rawLab(t, func(conn net.Conn) {
			requests := bufio.NewReader(conn)
			if ok(conn, requests) && second(http.ReadRequest(requests)) == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Le")
				<-time.After(1200 * time.Millisecond) // longer than until the client is looked at
				_, _ = io.WriteString(conn, "ngth: 2\r\n\r\nok")
			}
		}, proxy.Config{})
		conn := l.dial(t)
		answers := bufio.NewReader(conn)
		for range 2 {
			fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
			if got := listenTo(t, answers, "POST"); got.status != 200 {
				t.Errorf("%+v, want 200", got)
			}
		}
	})
	t.Run("of a client", func(t *testing.T) {
		l := rawLab(t, func(conn net.Conn) {
			for requests := bufio.NewReader(conn); ok(conn, requests); {
			}
		}, proxy.Config{})
		l.impatient(t, proxy.OwnConfig{Header: short}, nil)
		got := l.raw(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nA: ")
		if strings.Count(got, "HTTP/1.1 200 OK") != 1 {
			t.Errorf("the client got %q, want one answer and then the end", got)
		}
	})
	t.Run("of a client that pauses in a head", func(t *testing.T) {
		l := rawLab(t, func(conn net.Conn) {
			for requests := bufio.NewReader(conn); ok(conn, requests); {
			}
		}, proxy.Config{})
		l.impatient(t, proxy.OwnConfig{}, nil)
		conn := l.dial(t)
		answers := bufio.NewReader(conn)
		for _, pause := range []time.Duration{0, 700 * time.Millisecond} { // longer than an idle connection keeps its buffer
			fmt.Fprint(conn, "GET / HTTP/1.1\r\nHo")
			<-time.After(pause)
			fmt.Fprint(conn, "st: x\r\n\r\n")
			if got := listenTo(t, answers, "GET"); got.status != 200 {
				t.Errorf("after a pause of %v: %+v, want 200", pause, got)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }

// TestBytesThatNobodyHasAskedForAreNoAnswer: the next request may be another client's.
func TestBytesThatNobodyHasAskedForAreNoAnswer(t *testing.T) {
	onlyOwn(t)
	stray, wrote := make(chan struct{}), make(chan struct{})
	l := rawLab(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		<-stray
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray")
		wrote <- struct{}{}
		_, _ = io.Copy(io.Discard, conn)
	}, proxy.Config{})
	conn := l.dial(t)
	answers := bufio.NewReader(conn)
	for n := range 30 {
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if got := listenTo(t, answers, "GET"); got.body != "ok" {
			t.Fatalf("request %d got %+v", n+1, got)
		}
		stray <- struct{}{}
		<-wrote
	}
}
