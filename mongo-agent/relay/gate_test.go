package relay

import (
	"errors"
	"net"
	"testing"
)

// TestNothingOfMongodGetsThroughOnceItMayNotAnswer: an agent that did not run for
// a while finds an answer waiting for it when it runs again.
func TestNothingOfMongodGetsThroughOnceItMayNotAnswer(t *testing.T) {
	here, mongod := net.Pipe()
	defer here.Close()
	allowed := true
	g := &gated{here, t.Context(), &hold{}, func() bool { return allowed }}
	buffer := make([]byte, 16)
	go func() { _, _ = mongod.Write([]byte("first")) }()
	if n, err := g.Read(buffer); err != nil || string(buffer[:n]) != "first" {
		t.Fatalf("%q, %v", buffer[:n], err)
	}
	allowed = false
	go func() { _, _ = mongod.Write([]byte("second")) }()
	if n, err := g.Read(buffer); n != 0 || !errors.Is(err, errFenced) {
		t.Errorf("%q, %v", buffer[:n], err)
	}
	_ = mongod.Close()
}
