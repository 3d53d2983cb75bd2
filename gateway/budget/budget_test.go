package budget_test

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/budget"
)

func start() time.Time { return time.Unix(1_800_000_000, 0) }

func take(b *budget.Budget, now time.Time) int {
	n := 0
	for b.Take(now) {
		n++
	}
	return n
}

func TestBudgetIsAPartOfTheRequestsAndAConstantRate(t *testing.T) {
	cases := []struct {
		name     string
		cfg      budget.Config
		requests int
		want     int
	}{
		{"without requests", budget.Config{}, 0, 100},
		{"20 % and 10/s", budget.Config{}, 1000, 300},
		{"less than one more", budget.Config{}, 4, 100},
		{"just one more", budget.Config{}, 5, 101},
		{"no constant rate", budget.Config{PerSecond: -1}, 50, 10},
		{"no part", budget.Config{Ratio: -1}, 1000, 100},
		{"nothing", budget.Config{Ratio: -1, PerSecond: -1}, 1000, 0},
		{"another window", budget.Config{Window: time.Second}, 10, 12},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := budget.New(c.cfg)
			for range c.requests {
				b.Request(start())
			}
			if got := b.Left(start()); got != c.want {
				t.Errorf("%d left, want %d", got, c.want)
			}
			if got := take(b, start()); got != c.want {
				t.Errorf("%d taken, want %d", got, c.want)
			}
			if got := b.Left(start()); got != 0 {
				t.Errorf("%d left afterwards", got)
			}
		})
	}
}

func TestRefusedAttemptsAreNotSpent(t *testing.T) {
	b := budget.New(budget.Config{Ratio: -1, PerSecond: 1})
	if got := take(b, start()); got != 10 {
		t.Fatalf("%d", got)
	}
	for range 1000 {
		b.Take(start())
	}
	if got := take(b, start().Add(12*time.Second)); got != 10 {
		t.Errorf("%d after the window, want 10", got)
	}
}

func TestWhatIsOlderThanTheWindowIsForgotten(t *testing.T) {
	b := budget.New(budget.Config{PerSecond: -1})
	for range 100 {
		b.Request(start())
	}
	if got := b.Left(start().Add(9 * time.Second)); got != 20 {
		t.Errorf("%d left within the window", got)
	}
	if got := b.Left(start().Add(10 * time.Second)); got != 0 {
		t.Errorf("%d left after it", got)
	}
}

func TestNoWindowHasMoreThanItMay(t *testing.T) {
	const window = 10 * time.Second
	for seed := range uint64(20) {
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 7))
		b := budget.New(budget.Config{PerSecond: 1})
		now := start()
		var requests, spent []time.Time
		since := func(times []time.Time) int {
			n := 0
			for i := len(times) - 1; i >= 0 && now.Sub(times[i]) <= window; i-- {
				n++
			}
			return n
		}
		refused := 0
		for range 5000 {
			now = now.Add(time.Duration(r.ExpFloat64() * float64(20*time.Millisecond)))
			if r.IntN(500) == 0 {
				now = now.Add(time.Duration(r.IntN(15)) * time.Second)
			}
			if r.IntN(2) == 0 {
				b.Request(now)
				requests = append(requests, now)
				continue
			}
			if !b.Take(now) {
				refused++
				continue
			}
			spent = append(spent, now)
			if n, may := since(spent), 0.2*float64(since(requests))+10; float64(n) > may+1e-6 {
				t.Fatalf("%d further attempts in a window that may have %.1f", n, may)
			}
		}
		if refused == 0 || len(spent) < 100 {
			t.Errorf("%d refused, %d spent: that shows nothing", refused, len(spent))
		}
	}
}

func TestConcurrentTakersGetNoMoreThanThereIs(t *testing.T) {
	b := budget.New(budget.Config{})
	var wg sync.WaitGroup
	var taken atomic.Int64
	for range 8 {
		wg.Go(func() {
			for range 500 {
				b.Request(start())
				if b.Take(start()) {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := taken.Load(); n > 900 || n+int64(b.Left(start())) != 900 {
		t.Errorf("%d taken and %d left of 900", n, b.Left(start()))
	}
}

func TestClockFarBehindSpendsNothing(t *testing.T) {
	b := budget.New(budget.Config{})
	b.Take(start().Add(16 * time.Second))
	if b.Take(start()) {
		t.Error("an attempt was spent in the past, where it is not counted")
	}
	if !b.Take(start().Add(15 * time.Second)) {
		t.Error("a clock one second behind is refused")
	}
}

func TestBudgetAllocatesNothing(t *testing.T) {
	b := budget.New(budget.Config{})
	if n := testing.AllocsPerRun(100, func() { b.Request(start()); b.Take(start()); b.Left(start()) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	budget, now := budget.New(budget.Config{}), start()
	b.ReportAllocs()
	for b.Loop() {
		budget.Request(now)
	}
}

func BenchmarkRequestParallel(b *testing.B) {
	budget, now := budget.New(budget.Config{}), start()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			budget.Request(now)
		}
	})
}

func BenchmarkTake(b *testing.B) {
	budget, now := budget.New(budget.Config{PerSecond: 1e9}), start()
	b.ReportAllocs()
	for b.Loop() {
		if !budget.Take(now) {
			b.Fatal("none left")
		}
	}
}
