package proxy_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

func TestHalfARequestIsNotAnsweredWithWhatItsInstanceMakesOfIt(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	instanceOf(world, "web-1", func(c net.Conn) {
		_, _ = io.Copy(io.Discard, c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") // as soon as it sees the end, faster than that takes
	}, "urlprefix-/web")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, BodyIdle: 20 * time.Millisecond})
	if !withStd() {
		l.impatient(t, proxy.OwnConfig{BodyIdle: 10 * time.Millisecond}, nil)
	}
	for range 100 {
		conn := l.dial(t)
		fmt.Fprint(conn, "POST /web HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
		answer, _ := io.ReadAll(io.LimitReader(conn, 12))
		if string(answer) != "HTTP/1.1 408" {
			t.Fatalf("answered with %q, want 408", answer)
		}
		_ = conn.Close()
	}
}
