package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

// switching answers with another protocol: it sends back what it gets, and "end" once
// nothing more comes.
func switching(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
		_, _ = io.WriteString(conn, "end")
	}
}

// breaking is a listener whose connections panic once they are told to.
type breakingListener struct {
	net.Listener
	reads, writes atomic.Bool
}

type breakingConn struct {
	net.Conn
	*breakingListener
}

func (l *breakingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &breakingConn{conn, l}, nil
}

func (c *breakingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.reads.Load() {
		panic("a fault of ours in a read")
	}
	return n, err
}

func (c *breakingConn) Write(p []byte) (int, error) {
	if c.writes.Load() {
		panic("a fault of ours in a write")
	}
	return c.Conn.Write(p)
}

func (c *breakingConn) Close() error { return c.Conn.Close() }

func (c *breakingConn) Addr() net.Addr { return c.LocalAddr() }

// switched asks a gateway for another protocol, and sends a text along.
func switched(t *testing.T, url, early string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(conn, "GET /web HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"+early)
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("answer = %v, %v; want 101", response, err)
	}
	return conn, reader
}

func TestAPanicInASwitchedProtocolEndsItAlone(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", switching(t), "urlprefix-/web")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy})
	listener := &breakingListener{}
	server := httptest.NewUnstartedServer(l.Proxy)
	listener.Listener = server.Listener
	server.Listener = listener
	server.Start()
	defer server.Close()
	for _, broken := range []*atomic.Bool{&listener.reads, &listener.writes} {
		conn, reader := switched(t, server.URL, "")
		fmt.Fprintln(conn, "ping")
		if line, err := reader.ReadString('\n'); err != nil || line != "ping\n" {
			t.Fatalf("%q, %v", line, err)
		}
		before := l.panics(t)
		broken.Store(true)
		fmt.Fprintln(conn, "more")
		if _, err := reader.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("it goes on: %v", err)
		}
		broken.Store(false)
		if n := l.panics(t) - before; n != 1 {
			t.Errorf("%d panics are counted", n)
		}
	}
}

func TestASwitchedProtocolHasWhatCameWithTheRequestAndMayEndInOneDirection(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", switching(t), "urlprefix-/web")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy})
	conn, reader := switched(t, l.url, "early ")
	fmt.Fprint(conn, "late ")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(reader)
	if string(got) != "early late end" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}
