package listen_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"sluice/gateway/listen"
)

func TestAPanicOfWhatServesCostsItsConnectionAndNothingElse(t *testing.T) {
	var broken atomic.Bool
	var panics atomic.Int64
	r := start(t, "", listen.Config{
		Std:      says("std"),
		Panicked: func(any) error { panics.Add(1); return errors.New("a fault") },
		Own: func(ctx context.Context, conn net.Conn, info listen.Info) {
			if broken.Load() {
				panic("a fault")
			}
			own(ctx, conn, info)
		},
	})
	broken.Store(true)
	if err := fate(r.addr); err == nil {
		t.Error("the connection is still open")
	}
	broken.Store(false)
	if got := ask(t, dial(t, r.addr), request); got != "HTTP/1.1 200 OK" {
		t.Errorf("the next connection got %q", got)
	}
	if n := panics.Load(); n != 1 {
		t.Errorf("%d panics are counted", n)
	}
}
