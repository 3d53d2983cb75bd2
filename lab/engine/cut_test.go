package engine

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// packets listens for datagrams in a node.
func packets(t *testing.T, node *netnsNode, address string) net.PacketConn {
	t.Helper()
	var conn net.PacketConn
	err := node.inside(func() (err error) {
		conn, err = net.ListenPacket("udp4", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// arrives sends a datagram and reports whether it arrived. That it was sent is no
// error in any case: a cut tells nobody.
func arrives(t *testing.T, from, to net.PacketConn, word string) bool {
	t.Helper()
	if _, err := from.WriteTo([]byte(word), to.LocalAddr()); err != nil {
		t.Errorf("send %q: %v, want silence", word, err)
	}
	if err := to.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 64)
	for {
		n, _, err := to.ReadFrom(got)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return false
		case err != nil:
			t.Fatal(err)
		case string(got[:n]) == word:
			return true
		}
	}
}

func (w *world) cutOneWay(t *testing.T) {
	w.waysCut(t, w.b, "198.18.1.12:0", w.b.Cut, w.b.Heal, w.b.IsCut)
}

func (w *world) datacenterCutOneWay(t *testing.T) {
	w.waysCut(t, w.far, "198.18.2.11:0",
		func(ctx context.Context, d Direction) error { return w.engine.CutDatacenter(ctx, "dc2", d) },
		func(ctx context.Context) error { return w.engine.HealDatacenter(ctx, "dc2") },
		func() Direction { return w.engine.IsDatacenterCut("dc2") })
}

// waysCut cuts a node at place in every way and looks what passes.
func (w *world) waysCut(t *testing.T, node *netnsNode, place string, cut func(context.Context, Direction) error, heal func(context.Context) error, is func() Direction) {
	here, there := packets(t, w.a, "198.18.1.11:0"), packets(t, node, place)
	address := echo(t, node, place)
	for _, step := range []struct {
		name    string
		cut     Direction // NoDirection heals
		is      Direction
		in, out bool // what passes
	}{
		{"before", NoDirection, NoDirection, true, true},
		{"in", In, In, false, true},
		{"healed from in", NoDirection, NoDirection, true, true},
		{"out", Out, Out, true, false},
		{"out, then in", In, Both, false, false},
		{"healed from both", NoDirection, NoDirection, true, true},
	} {
		t.Run(step.name, func(t *testing.T) {
			act := heal
			if step.cut != NoDirection {
				act = func(ctx context.Context) error { return cut(ctx, step.cut) }
			}
			for range 2 {
				if err := act(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := is(); got != step.is {
				t.Errorf("IsCut = %q, want %q", got, step.is)
			}
			if got := arrives(t, here, there, "in "+step.name); got != step.in {
				t.Errorf("a frame to the node arrives: %v, want %v", got, step.in)
			}
			if got := arrives(t, there, here, "out "+step.name); got != step.out {
				t.Errorf("a frame from the node arrives: %v, want %v", got, step.out)
			}
			if _, err := dialWithin(t, w.a, address, 300*time.Millisecond); (err == nil) != (step.in && step.out) || err != nil && !timedOut(err) {
				t.Errorf("dial: %v, want success only when both ways pass, else silence", err)
			}
		})
	}
	if err := w.b.Cut(t.Context(), "sideways"); err == nil {
		t.Error("a direction that does not exist was taken")
	}
}
