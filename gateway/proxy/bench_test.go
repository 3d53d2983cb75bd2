package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway/proxy"
	"sluice/gateway/tcp"
	"sluice/internal/meshtest"
)

// BenchmarkRequest carries keep-alive requests over the mesh with either codec;
// client and instance are in the same process, so only the difference counts.
func BenchmarkRequest(b *testing.B) {
	body := make([]byte, 1024)
	for _, codec := range []string{"own", "std"} {
		b.Run(codec, func(b *testing.B) {
			world := meshtest.New(b)
			world.Policy.Set(allowWeb)
			instance := rawInstance(b, world, body)
			_ = instance
			p := proxy.New(proxy.Config{Catalog: world.Catalog, Dialer: world.Dialer("gateway", nil), Policy: world.Policy})
			world.Run("gateway", p.Run)
			meshtest.Wait(b, "the route is there", func() bool { return p.Table().Len() > 0 })
			address := serveBench(b, p, codec)
			conns := make([]net.Conn, 8)
			for i := range conns {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				conns[i] = conn
			}
			b.ReportAllocs()
			b.ResetTimer()
			var clients sync.WaitGroup
			for i, conn := range conns {
				clients.Go(func() { ask(b, conn, b.N/len(conns)+i%2) })
			}
			clients.Wait()
		})
	}
}

func ask(b *testing.B, conn net.Conn, n int) {
	reader := bufio.NewReader(conn)
	request := []byte("GET /web HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n")
	for range n {
		if _, err := conn.Write(request); err != nil {
			b.Error(err)
			return
		}
		if err := swallow(reader); err != nil {
			b.Error(err)
			return
		}
	}
}

// swallow reads one answer without parsing more than it must.
func swallow(r *bufio.Reader) error {
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 2 {
			break
		}
		if len(line) > 16 && string(line[:16]) == "Content-Length: " {
			length, _ = strconv.Atoi(string(line[16 : len(line)-2]))
		}
	}
	_, err := r.Discard(length)
	return err
}

// rawInstance is a service that costs as little as it can.
func rawInstance(b *testing.B, world *meshtest.World, body []byte) net.Listener {
	listener := world.Listen("web", world.Policy)
	world.Catalog.Add(world.Instance("web", "web-1", listener.Addr().String(), "urlprefix-/web"))
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	attend(world, "instance", listener, func(conn net.Conn) {
		buffer := make([]byte, 4096)
		for {
			if _, err := conn.Read(buffer); err != nil {
				return
			}
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	})
	return listener
}

func serveBench(b *testing.B, p *proxy.Proxy, codec string) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(func() { cancel(); _ = listener.Close() })
	if codec == "std" {
		go func() { _ = http.Serve(listener, p) }()
		return listener.Addr().String()
	}
	handoff := tcp.NewHandoff(listener.Addr())
	own := p.Own(proxy.OwnConfig{Fallback: handoff.Give})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go own.Serve(ctx, conn, proxy.Connection{})
		}
	}()
	return listener.Addr().String()
}

// BenchmarkTableOf10000Tags lets a route come and go beside 10,000 tags on four instances of the same service, and reports what the
// gateway's own histogram says of each change.
func BenchmarkTableOf10000Tags(b *testing.B) {
	world := meshtest.New(b)
	world.Policy.Set(allowWeb)
	for n := range 4 {
		var tags []string
		for i := range 2500 {
			tags = append(tags, fmt.Sprintf("urlprefix-host-%d.example/path/%d", (n*2500+i)/5, i%5))
		}
		world.Catalog.Add(world.Instance("web", fmt.Sprintf("web-%d", n), fmt.Sprintf("127.0.0.1:%d", n+1), tags...))
	}
	registry := prometheus.NewRegistry()
	p := proxy.New(proxy.Config{Catalog: world.Catalog, Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Registerer: registry})
	world.Run("gateway", p.Run)
	meshtest.Wait(b, "all routes are there", func() bool { return p.Table().Len() == 10_000 })
	extra := world.Instance("web", "web-new", "127.0.0.1:9", "urlprefix-new.example/")
	before, n := builds(b, registry)
	b.ReportAllocs()
	for b.Loop() {
		world.Catalog.Add(extra)
		meshtest.Wait(b, "it came", func() bool { r, _ := p.Table().Lookup("new.example", "/"); return r != nil && len(r.Instances) > 0 })
		world.Catalog.Remove(extra)
		meshtest.Wait(b, "it went", func() bool { r, _ := p.Table().Lookup("new.example", "/"); return r != nil && len(r.Instances) == 0 })
	}
	after, m := builds(b, registry)
	b.ReportMetric(1000*(after-before)/(m-n), "ms/change")
}

// builds returns how long all builds of tables took, in seconds, and how many there were.
func builds(b *testing.B, registry *prometheus.Registry) (sum, count float64) {
	b.Helper()
	families, err := registry.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "sluice_gateway_table_build_seconds" {
			h := family.GetMetric()[0].GetHistogram()
			return h.GetSampleSum(), float64(h.GetSampleCount())
		}
	}
	b.Fatal("the metric is missing")
	return 0, 0
}
