package mesh_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/intentions"
	"sluice/internal/testca"
	"sluice/mesh"
)

// cpu returns the processor time that this process has used, in both modes.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// cost is what a piece of work took.
type cost struct{ wall, cpu time.Duration }

func measure(tb testing.TB, work func()) cost {
	tb.Helper()
	wall, used := time.Now(), cpu(tb)
	work()
	return cost{wall: time.Since(wall), cpu: cpu(tb) - used}
}

// plainTLS is the same mutual TLS without a mesh: no authorization, no table, no
// confirmation.
type plainTLS struct {
	address string
	client  *tls.Config
}

func (w *world) plainTLS(handler func(*tls.Conn)) plainTLS {
	w.tb.Helper()
	leaf := func(service string) tls.Certificate {
		return *w.ca.Leaf(w.tb, testca.Leaf{Datacenter: "dc1", Service: service})
	}
	roots := testca.Pool(w.ca)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{leaf("web")},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer func() { _ = conn.Close() }()
				handler(conn.(*tls.Conn))
			})
		}
	})
	w.tb.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return plainTLS{address: l.Addr().String(), client: &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{leaf("gateway")}, InsecureSkipVerify: true,
		// The names are not those of hosts, so that the chain is checked here.
		VerifyConnection: func(state tls.ConnectionState) error {
			intermediates := x509.NewCertPool()
			for _, c := range state.PeerCertificates[1:] {
				intermediates.AddCert(c)
			}
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates})
			return err
		},
	}}
}

// BenchmarkNewConnection makes a connection, says one byte, hears it back and
// closes, once over the mesh and once over plain mutual TLS. ratio-cpu and
// ratio-wall are mesh over plain.
func BenchmarkNewConnection(b *testing.B) {
	w := newWorld(b)
	server := w.listen("web", allowing(allow("gateway", "web")), nil)
	server.echo(b)
	policy := allowing(allow("gateway", "web"))
	dialer, _ := w.dialer("gateway", func(c *mesh.DialerConfig) { c.Policy = policy })
	plain := w.plainTLS(func(c *tls.Conn) { _, _ = io.Copy(c, c) })

	overMesh := func() {
		conn := mustDial(b, dialer, server.instance())
		roundTrip(b, conn, "x")
		_ = conn.Close()
	}
	overPlain := func() {
		conn, err := tls.Dial("tcp", plain.address, plain.client)
		if err != nil {
			b.Fatal(err)
		}
		roundTrip(b, conn, "x")
		_ = conn.Close()
	}
	compare(b, overMesh, overPlain)
}

// compare runs both in turn, in blocks, so that a busy machine disturbs them
// alike.
func compare(b *testing.B, ours, plain func()) (total, base cost) {
	const block = 20
	ours()
	plain()
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= block {
		n := min(left, block)
		one := measure(b, func() {
			for range n {
				ours()
			}
		})
		b.StopTimer()
		two := measure(b, func() {
			for range n {
				plain()
			}
		})
		b.StartTimer()
		total.wall, total.cpu = total.wall+one.wall, total.cpu+one.cpu
		base.wall, base.cpu = base.wall+two.wall, base.cpu+two.cpu
	}
	b.StopTimer()
	b.ReportMetric(float64(total.cpu.Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(base.cpu.Microseconds())/float64(b.N), "plain-cpu-µs/op")
	b.ReportMetric(float64(total.cpu)/float64(base.cpu), "ratio-cpu")
	b.ReportMetric(float64(total.wall)/float64(base.wall), "ratio-wall")
	return total, base
}

// BenchmarkRevocation denies one of two services that hold 200 connections each,
// and waits until the last client has seen its reset. ms/first and ms/last are
// from the change of the policy to the first and to the last reset.
func BenchmarkRevocation(b *testing.B) {
	const each = 200
	w := newWorld(b)
	both := []intentions.Rule{allow("web", "mongo-primary"), allow("gateway", "mongo-primary")}
	policy := allowing(both...)
	server := w.listen("mongo-primary", policy, nil)
	server.echo(b)
	web, _ := w.dialer("web", nil)
	gateway, _ := w.dialer("gateway", nil)
	var bystanders []*mesh.Conn
	for range each {
		bystanders = append(bystanders, mustDial(b, gateway, server.instance()))
	}
	var first, last time.Duration
	for b.Loop() {
		b.StopTimer()
		policy.set(both...)
		var losers []*mesh.Conn
		for range each {
			losers = append(losers, mustDial(b, web, server.instance()))
		}
		ends := make(chan time.Time, each)
		for _, conn := range losers {
			go func() {
				_, _ = conn.Read(make([]byte, 1))
				ends <- time.Now()
				_ = conn.Close()
			}()
		}
		b.StartTimer()
		began := time.Now()
		policy.set(both[1])
		var end time.Time
		for i := range each {
			end = <-ends
			if i == 0 {
				first += end.Sub(began)
			}
		}
		last += end.Sub(began)
	}
	for _, conn := range bystanders {
		roundTrip(b, conn, "untouched")
	}
	b.ReportMetric(float64(first.Microseconds())/1000/float64(b.N), "ms/first")
	b.ReportMetric(float64(last.Microseconds())/1000/float64(b.N), "ms/last")
}

const mebibyte = 1 << 20

// BenchmarkThroughput sends bytes through a proxy, TCP in, TLS to the server, TCP
// out, in both of two forms: with Upstream, Listener and Splice, and with plain
// mutual TLS and a plain copy loop in their places. One operation is 8 MiB.
func BenchmarkThroughput(b *testing.B) {
	const size = 8 * mebibyte
	w := newWorld(b)
	sink := newSink(b)
	server := w.listen("web", allowing(allow("gateway", "web")), nil)
	server.handle(b, func(c net.Conn) {
		local, err := net.Dial("tcp", sink.address)
		if err == nil {
			_ = mesh.Splice(b.Context(), c, local)
		}
	})
	upstream := w.upstream("gateway", server.instance(), nil)
	plain := w.plainTLS(func(c *tls.Conn) {
		local, err := net.Dial("tcp", sink.address)
		if err == nil {
			plainSplice(c, local)
		}
	})
	ours := sender(b, upstream.Addr().String(), sink, size)
	other := sender(b, w.plainProxy(plain), sink, size)
	b.SetBytes(size)
	total, base := compare(b, ours, other)
	gibibytes := float64(b.N) * size / (1 << 30)
	b.ReportMetric(total.cpu.Seconds()/gibibytes, "cpu-s/GiB")
	b.ReportMetric(base.cpu.Seconds()/gibibytes, "plain-cpu-s/GiB")
}

// sink swallows bytes and says when it has had so many.
type sink struct {
	address string
	got     chan int
}

func newSink(b *testing.B) *sink {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &sink{address: l.Addr().String(), got: make(chan int, 1<<16)}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer func() { _ = conn.Close() }()
				buffer := make([]byte, 64<<10)
				for {
					n, err := conn.Read(buffer)
					if err != nil {
						return
					}
					s.got <- n
				}
			})
		}
	})
	b.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return s
}

// sender returns an operation that sends size bytes and waits until they have
// arrived.
func sender(b *testing.B, address string, s *sink, size int) func() {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	piece := make([]byte, 64<<10)
	return func() {
		var writing sync.WaitGroup
		writing.Go(func() {
			for left := size; left > 0; left -= len(piece) {
				if _, err := conn.Write(piece); err != nil {
					b.Error(err)
					return
				}
			}
		})
		for left := size; left > 0; {
			left -= <-s.got
		}
		writing.Wait()
	}
}

// plainProxy listens on TCP and copies to a plain TLS server.
func (w *world) plainProxy(to plainTLS) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.tb.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				remote, err := tls.Dial("tcp", to.address, to.client)
				if err != nil {
					w.tb.Error(err)
					return
				}
				plainSplice(conn, remote)
			})
		}
	})
	w.tb.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// plainSplice is the copy loop that everybody writes.
func plainSplice(a, b net.Conn) {
	var copying sync.WaitGroup
	one := func(dst, src net.Conn) {
		defer func() { _ = a.Close() }()
		defer func() { _ = b.Close() }()
		if _, err := io.Copy(dst, src); err != nil && !errors.Is(err, net.ErrClosed) {
			return
		}
	}
	copying.Go(func() { one(a, b) })
	one(b, a)
	copying.Wait()
}
