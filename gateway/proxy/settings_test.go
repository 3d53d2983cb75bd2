package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/gateway/proxy"
	"sluice/gateway/tag"
	"sluice/internal/meshtest"
	"sluice/mesh"
)

// TestHashAsTheDefaultTiesEachClientToAnInstance would send all clients to one.
func TestHashAsTheDefaultTiesEachClientToAnInstance(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	for _, node := range []string{"a", "b", "c"} {
		serve(world, "web", node, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, node) }, "urlprefix-/web")
	}
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Strategy: tag.Hash, Trusted: networks(t, "127.0.0.1"), SlowStart: -1})
	used := map[string]bool{}
	for client := range 30 {
		address := fmt.Sprintf("192.0.2.%d", client)
		first := l.get("/web", "X-Forwarded-For", address).body
		used[first] = true
		for range 3 {
			if again := l.get("/web", "X-Forwarded-For", address).body; again != first {
				t.Errorf("%s is answered by %s and by %s", address, first, again)
			}
		}
	}
	if len(used) != 3 {
		t.Errorf("30 clients are answered by %v, want three instances", used)
	}
}

func TestTheOrderOfDatacentersIsKeptWhereATagSaysNothing(t *testing.T) {
	for name, c := range map[string]struct {
		order []string
		want  string
	}{"the own one first": {nil, "FO"}, "the other first": {[]string{"dc1", "dc9"}, "-"}, "the other alone": {[]string{"dc1"}, "-"}, "the own one alone": {[]string{"dc9"}, "UH"}} {
		t.Run(name, func(t *testing.T) {
			world := meshtest.New(t)
			world.Policy.Set(allowWeb)
			serve(world, "web", "web-1", hello, "urlprefix-/web") // in dc1
			l, log := logged(t, world, proxy.Config{
				Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Datacenter: "dc9", Datacenters: []string{"dc1"}, Order: c.order,
			}, "$request_uri $flags")
			l.get("/web")
			if line := log.has(t, "/web "); line != "/web "+c.want {
				t.Errorf("got %q, want the flags %q", line, c.want)
			}
		})
	}
}

func TestTimesForAWholeRequestAndAWholeAnswerHoldHoweverTheBytesMove(t *testing.T) {
	onlyOwn(t)
	trickle := func(conn io.Writer, piece string) {
		ticker := time.NewTicker(short / 10)
		defer ticker.Stop()
		for _, err := io.WriteString(conn, piece); err == nil; _, err = io.WriteString(conn, piece) {
			<-ticker.C
		}
	}
	l := rawLab(t, func(conn net.Conn) {
		request, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		if request.Method == "POST" {
			_, _ = io.Copy(io.Discard, request.Body)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		trickle(conn, "x")
	}, proxy.Config{})
	l.impatient(t, proxy.OwnConfig{Request: 3 * short, Answer: 10 * short}, nil)

	ended := make(chan struct{})
	conn := l.dial(t)
	go func() {
		defer close(ended)
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
		trickle(conn, "1\r\nx\r\n")
	}()
	if got := listenTo(t, bufio.NewReader(conn), "POST"); got.status != http.StatusRequestTimeout {
		t.Errorf("a request that never ends is answered with %+v, want 408", got)
	}
	within(t, ended, "the connection of a request that never ends is closed")

	answer := l.dial(t)
	_, _ = io.WriteString(answer, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	got := make(chan struct{})
	go func() {
		defer close(got)
		_, _ = io.Copy(io.Discard, answer)
	}()
	within(t, got, "an answer that never ends is cut")
}

func TestNoPauseOfABodyIsTooLongWhereThereIsNoBound(t *testing.T) {
	onlyOwn(t)
	r := &tape{}
	l := rawLab(t, r.talk, proxy.Config{})
	l.impatient(t, proxy.OwnConfig{BodyIdle: -1}, nil)
	conn := l.dial(t)
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"+done+"a")
	meshtest.Wait(t, "the upload goes on", func() bool { return r.live.Load() == 1 })
	_, _ = io.WriteString(conn, "b")
	if got := listenTo(t, bufio.NewReader(conn), "POST"); got.status != http.StatusNoContent || got.broken {
		t.Errorf("got %+v", got)
	}
}

func TestNoConnectionIsKeptWhereNoneIsToBe(t *testing.T) {
	for keep, want := range map[time.Duration]bool{0: true, -1: false} {
		world := meshtest.New(t)
		world.Policy.Set(allowWeb)
		serve(world, "web", "web-1", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) }, "urlprefix-/web")
		l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, KeepAlive: keep})
		first := l.get("/web").body
		if withStd() && !want {
			continue // net/http closes it a moment later
		}
		if again := l.get("/web").body; (again == first) != want {
			t.Errorf("keep-alive %v: connections %s and %s", keep, first, again)
		}
	}
}

func TestTheTimeForAConnectionIncludesTheHandshakeOutsideTheMeshToo(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel connects, and nobody shakes hands
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	world := meshtest.New(t)
	instance := world.Instance("web", "silent", silent.Addr().String(), "urlprefix-/web proto=https retry=0")
	instance.ID = mesh.Instance{}.ID
	l := with(t, world, proxy.Config{
		Catalog: wider{world.Catalog, []mesh.Instance{instance}}, Dialer: world.Dialer("gateway", nil), AllowPlain: true, Dial: short, Timeout: time.Minute,
	})
	l.client.Timeout = 2 * soon // which is less than a minute
	if got := l.get("/web"); got.status != http.StatusBadGateway && got.status != http.StatusGatewayTimeout {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestAnEmptyListIsAListInJSON(t *testing.T) {
	p := proxy.New(proxy.Config{})
	for name, handler := range map[string]http.Handler{"timeline": p.TimelineHandler(), "recent": p.RecentHandler()} {
		if body := strings.TrimSpace(fetch(t, handler, "/").Body.String()); body != "[]" {
			t.Errorf("%s: %s", name, body)
		}
	}
}
