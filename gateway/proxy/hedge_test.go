package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

// TestTwoInstancesMayBothSendInterimAnswers would fail if what two attempts pass on
// at a time were written through each other.
func TestTwoInstancesMayBothSendInterimAnswers(t *testing.T) {
	const hints = 200
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	for _, node := range []string{"one", "two"} {
		instanceOf(world, node, func(conn net.Conn) {
			in := bufio.NewReader(conn)
			for {
				if _, err := http.ReadRequest(in); err != nil {
					return
				}
				for n := range hints {
					fmt.Fprintf(conn, "HTTP/1.1 103 Early Hints\r\nLink: </%d>\r\n\r\n", n)
				}
				_, _ = io.WriteString(conn, noContent)
			}
		}, "urlprefix-/a strip=/a hedge=1ms")
	}
	cfg := proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy}
	l := with(t, world, cfg)
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 10 {
				got := l.raw(t, "GET /a/b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
				if rest := got[strings.LastIndex(got, "HTTP/1.1 "):]; !strings.HasPrefix(rest, "HTTP/1.1 204 ") {
					t.Errorf("the answer ends with %.100q", rest)
				}
			}
		})
	}
	clients.Wait()
}
