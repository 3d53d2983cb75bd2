package hedge_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/gateway/budget"
	"sluice/gateway/hedge"
)

func start() time.Time { return time.Unix(1_800_000_000, 0) }

func learned(latency time.Duration) *hedge.Quantile {
	q := hedge.NewQuantile(hedge.Percentile)
	for range 1000 {
		q.Observe(latency)
	}
	return q
}

func TestOnlyWhatIsAskedForAndSafeWaitsForAHedge(t *testing.T) {
	get := hedge.Request{Method: "GET"}
	fixed := hedge.Route{After: 50 * time.Millisecond}
	cases := []struct {
		name    string
		route   hedge.Route
		request hedge.Request
		want    hedge.Reason
	}{
		{"not asked for", hedge.Route{}, get, hedge.NotAsked},
		{"GET", fixed, get, hedge.Waited},
		{"HEAD", fixed, hedge.Request{Method: "HEAD"}, hedge.Waited},
		{"POST", fixed, hedge.Request{Method: "POST"}, hedge.WrongMethod},
		{"PUT", fixed, hedge.Request{Method: "PUT"}, hedge.WrongMethod},
		{"GET with a body", fixed, hedge.Request{Method: "GET", Body: true}, hedge.HasBody},
		{"nothing learned", hedge.Route{Recent: hedge.NewQuantile(0.95)}, get, hedge.Learning},
		{"learned", hedge.Route{Recent: learned(20 * time.Millisecond)}, get, hedge.Waited},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			delay, reason := c.route.Delay(c.request)
			if reason != c.want || (delay > 0) != (c.want == hedge.Waited) {
				t.Errorf("%v, %q; want %q", delay, reason, c.want)
			}
		})
	}
	if delay, _ := fixed.Delay(get); delay != 50*time.Millisecond {
		t.Errorf("the fixed delay is %v", delay)
	}
	if delay, _ := (hedge.Route{Recent: learned(20 * time.Microsecond)}).Delay(get); delay != time.Millisecond {
		t.Errorf("after latencies of 20 µs the delay is %v", delay)
	}
}

func TestHedgeIsOneMoreAttemptWithinTheBudget(t *testing.T) {
	waiting := hedge.Waiting{Attempts: 1, Another: true}
	cases := []struct {
		name   string
		change func(*hedge.Waiting)
		want   hedge.Reason
	}{
		{"waiting", func(*hedge.Waiting) {}, hedge.Waited},
		{"answered", func(w *hedge.Waiting) { w.Answered = true }, hedge.HasAnswer},
		{"failed", func(w *hedge.Waiting) { w.Over = true }, hedge.Over},
		{"hedged", func(w *hedge.Waiting) { w.Attempts = 2 }, hedge.Hedged},
		{"alone", func(w *hedge.Waiting) { w.Another = false }, hedge.NobodyElse},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := budget.New(budget.Config{})
			w := waiting
			c.change(&w)
			ok, reason := hedge.Decide(start(), w, b)
			if reason != c.want || ok != (c.want == hedge.Waited) {
				t.Errorf("%v, %q; want %q", ok, reason, c.want)
			}
			if spent := b.Left(start()) != 100; spent != ok {
				t.Errorf("spent is %v", spent)
			}
		})
	}
	if ok, reason := hedge.Decide(start(), waiting, budget.New(budget.Config{PerSecond: -1})); ok || reason != hedge.NoBudget {
		t.Errorf("without a budget left: %v, %q", ok, reason)
	}
}

func TestQuantileComesNearTheTrueOne(t *testing.T) {
	distributions := map[string]func(*rand.Rand) float64{
		"exponential": func(r *rand.Rand) float64 { return r.ExpFloat64() * 5e6 },
		"lognormal":   func(r *rand.Rand) float64 { return math.Exp(r.NormFloat64()) * 2e6 },
		"narrow":      func(r *rand.Rand) float64 { return 1e6 + 1e4*r.Float64() },
		"bimodal": func(r *rand.Rand) float64 {
			if r.IntN(10) == 0 {
				return 1e8 * (1 + r.Float64())
			}
			return 1e6 * (1 + r.Float64())
		},
	}
	for name, draw := range distributions {
		for seed := range uint64(5) {
			t.Logf("%s, seed %d", name, seed)
			r := rand.New(rand.NewPCG(seed, 9))
			q := hedge.NewQuantile(hedge.Percentile)
			samples := make([]float64, 20_000)
			// The mean of the estimates; a single one varies by some percent.
			mean, n := 0.0, 0
			for i := range samples {
				samples[i] = draw(r)
				q.Observe(time.Duration(samples[i]))
				if got, known := q.Value(); known && i > 5000 {
					mean += math.Log(float64(got))
					n++
				}
			}
			slices.Sort(samples)
			want := samples[len(samples)*95/100]
			if got := math.Exp(mean / float64(n)); math.Abs(got/want-1) > 0.1 {
				t.Errorf("%s, seed %d: %v, want %v", name, seed, time.Duration(got), time.Duration(want))
			}
		}
	}
}

func TestQuantileFollowsAChange(t *testing.T) {
	q := learned(time.Millisecond)
	within := func(low, high time.Duration) bool {
		got, _ := q.Value()
		return got > low && got < high
	}
	if !within(900*time.Microsecond, 1100*time.Microsecond) {
		t.Fatal(q.Value())
	}
	for range 200 {
		q.Observe(100 * time.Millisecond)
	}
	if !within(90*time.Millisecond, 110*time.Millisecond) {
		t.Error(q.Value())
	}
	for range 3000 {
		q.Observe(time.Millisecond)
	}
	if !within(900*time.Microsecond, 1100*time.Microsecond) {
		t.Error(q.Value())
	}
}

func TestQuantileBearsConcurrentSamples(t *testing.T) {
	q := hedge.NewQuantile(hedge.Percentile)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(worker), 10))
			for range 20_000 {
				q.Observe(time.Duration(1e6 * (1 + r.Float64())))
			}
		})
	}
	wg.Wait()
	if got, known := q.Value(); !known || got < 1800*time.Microsecond || got > 2200*time.Microsecond {
		t.Errorf("%v, %v, want about 1.95 ms", got, known)
	}
}

func BenchmarkObserve(b *testing.B) {
	q, r := hedge.NewQuantile(hedge.Percentile), rand.New(rand.NewPCG(1, 11))
	samples := make([]time.Duration, 1024)
	for i := range samples {
		samples[i] = time.Duration(r.ExpFloat64() * 1e6)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		q.Observe(samples[i%len(samples)])
	}
}
