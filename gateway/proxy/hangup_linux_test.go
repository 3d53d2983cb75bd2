package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/gateway/proxy"
)

// cork holds back what is written to a socket, or lets it go at once.
func cork(t *testing.T, conn net.Conn, on int) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, on) })
	}
	if err != nil {
		t.Error(err)
	}
}

// TestAnAnswerThatNobodyAskedForIsNobodys is about an instance that can be made to
// send more than was asked: the rest, in a TLS record of its own that has come already,
// must not answer the next request, which may be another client's.
func TestAnAnswerThatNobodyAskedForIsNobodys(t *testing.T) {
	if withStd() {
		t.Skip("net/http notices only what comes while nobody asks")
	}
	l := rawLab(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			request, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if request.URL.Path != "/more" {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
				continue
			}
			cork(t, conn, 1)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
			cork(t, conn, 0)
		}
	}, proxy.Config{})
	for range 20 {
		client := l.dial(t)
		reader := bufio.NewReader(client)
		for _, path := range []string{"/more", "/next"} {
			_, _ = io.WriteString(client, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
			if got := listenTo(t, reader, "GET"); got.body != "good" {
				t.Fatalf("%s is answered with %+v", path, got)
			}
		}
		if rest := reader.Buffered(); rest > 0 {
			t.Fatal("the client got more than it asked for")
		}
	}
	if strings.Contains(l.get("/last").body, "forged") {
		t.Error("somebody else has got it")
	}
}
