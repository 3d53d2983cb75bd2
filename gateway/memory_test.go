package main

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func TestGarbageMayBeAsMuchAsASmallProcessNeedsAndAPartOfALargeOne(t *testing.T) {
	for _, c := range []struct {
		used uint64
		want int
	}{{0, 1_000}, {1 << 20, 1_000}, {14 << 20, 200}, {28 << 20, 100}, {40 << 20, 70}, {47 << 20, 60}, {1 << 40, 60}} {
		if got := roomFor(c.used); got != c.want {
			t.Errorf("%d bytes in use: %d %%, want %d %%", c.used, got, c.want)
		}
	}
}

func TestTheHeadroomFollowsWhatEachCollectionFindsAndIsGivenBack(t *testing.T) {
	var used atomic.Uint64
	used.Store(14 << 20)
	told := make(chan int)
	h := headroom{used: used.Load, set: func(percent int) int { told <- percent; return 123 }}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.run(ctx) }()
	next := func(want int) {
		t.Helper()
		late := time.After(20 * time.Second)
		for {
			select {
			case got := <-told:
				if got != want {
					t.Fatalf("told %d %%, want %d %%", got, want)
				}
				return
			case <-late:
				t.Fatalf("not told %d %%", want)
			case <-time.After(10 * time.Millisecond): // run may not have armed when the last one came
				runtime.GC()
			}
		}
	}
	next(200)
	used.Store(14<<20 + 1<<19) // not worth a stop
	runtime.GC()
	used.Store(100 << 20)
	next(60)
	used.Store(28 << 20)
	next(100)
	cancel()
	next(123)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAnOperatorsOwnSettingOfTheCollectorIsLeftAlone(t *testing.T) {
	t.Setenv("GOGC", "50")
	h := newHeadroom()
	h.set = func(percent int) int { t.Errorf("set to %d %%", percent); return 0 }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.run(ctx); err != nil {
		t.Error(err)
	}
}

func TestWhatIsInUseIsCounted(t *testing.T) {
	kept := make([]byte, 64<<20)
	runtime.GC()
	if got := bytesInUse(); got < 64<<20 {
		t.Errorf("%d bytes", got)
	}
	runtime.KeepAlive(kept)
}
