package proxyproto_test

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"sluice/gateway/proxyproto"
)

func TestAPanicCostsItsConnectionAndNothingElse(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked, panics atomic.Int64
	l := proxyproto.Listen(inner, proxyproto.Config{
		Trusted: func(netip.Addr) bool {
			if asked.Add(1) == 1 {
				panic("a fault")
			}
			return false
		},
		Panicked: func(any) error { panics.Add(1); return errors.New("a fault") },
	})
	defer l.Close()
	first, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := first.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
	second, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if n := panics.Load(); n != 1 || l.Counters().Refused != 1 {
		t.Errorf("%d panics, %+v", n, l.Counters())
	}
}
