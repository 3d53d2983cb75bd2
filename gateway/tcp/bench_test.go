package tcp_test

import (
	"io"
	"net"
	"testing"

	"sluice/gateway/tcp"
)

func BenchmarkBulk(b *testing.B) {
	address := instance(b, func(conn *net.TCPConn) { _, _ = io.Copy(io.Discard, conn) })
	for _, kernel := range []bool{true, false} {
		b.Run(map[bool]string{true: "kernel", false: "buffers"}[kernel], func(b *testing.B) {
			g := start(b, tcp.Config{Route: through(address, kernel)})
			conn, data := g.dial(b), make([]byte, 1<<20)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := conn.Write(data); err != nil {
					b.Fatal(err)
				}
			}
			_ = conn.Close()
		})
	}
}

func BenchmarkPingPong(b *testing.B) {
	g := start(b, tcp.Config{Route: to(instance(b, echo))})
	conn, data := g.dial(b), make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(data); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, data); err != nil {
			b.Fatal(err)
		}
	}
}
