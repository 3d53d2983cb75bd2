package relay

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
)

// pair is a gated connection and mongod's end of it.
func pair(t *testing.T, ctx context.Context, h *hold) (*gated, net.Conn) {
	here, mongod := net.Pipe()
	t.Cleanup(func() {
		_ = here.Close()
		_ = mongod.Close()
	})
	return &gated{here, ctx, h, nil}, mongod
}

func TestWhatIsHeldBackWaitsInBothDirectionsAndThenGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hold{}
		g, mongod := pair(t, t.Context(), h)
		h.set(true)
		answer, request := make(chan string, 1), make(chan string, 1)
		go func() {
			buffer := make([]byte, 16)
			n, _ := g.Read(buffer)
			answer <- string(buffer[:n])
		}()
		go func() { _, _ = g.Write([]byte("request")) }()
		if _, err := mongod.Write([]byte("answer")); err != nil {
			t.Fatal(err)
		}
		go func() {
			buffer := make([]byte, 16)
			n, _ := mongod.Read(buffer)
			request <- string(buffer[:n])
		}()
		synctest.Wait()
		if len(answer)+len(request) > 0 {
			t.Fatal("something got through")
		}
		h.set(false)
		if a, r := <-answer, <-request; a != "answer" || r != "request" {
			t.Errorf("after the hold: answer %q, request %q", a, r)
		}
	})
}

func TestAnAnswerThatWaitsIsNotGivenAfterTheCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hold{}
		ctx, cut := context.WithCancel(t.Context())
		g, mongod := pair(t, ctx, h)
		h.set(true)
		type result struct {
			n   int
			err error
		}
		results := make(chan result, 1)
		go func() {
			n, err := g.Read(make([]byte, 16))
			results <- result{n, err}
		}()
		if _, err := mongod.Write([]byte("acknowledged")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		// As Door.Cut does it: the opening ends first.
		cut()
		h.set(false)
		if r := <-results; r.n != 0 || !errors.Is(r.err, context.Canceled) {
			t.Errorf("the answer got through: %+v", r)
		}
	})
}
