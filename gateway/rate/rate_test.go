package rate_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/gateway/rate"
)

func noon() time.Time { return time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC) }

func TestAMinuteIsCountedAndThenForgotten(t *testing.T) {
	var w rate.Window
	if got := w.Summary(noon()); got != (rate.Summary{}) {
		t.Errorf("an empty window says %+v", got)
	}
	for i := range 600 { // ten a second for a minute
		w.Observe(noon().Add(time.Duration(i)*100*time.Millisecond), time.Millisecond, i%10 == 0)
	}
	end := noon().Add(59900 * time.Millisecond)
	got := w.Summary(end)
	if got.Count != 600 || got.Failed != 60 || math.Abs(got.PerSecond-10) > 0.1 {
		t.Errorf("after a minute: %+v; want 600, 60 of them failed, 10 a second", got)
	}
	if got := w.Summary(end.Add(30 * time.Second)); got.Count < 250 || got.Count > 310 {
		t.Errorf("half a minute later: %d, want about half", got.Count)
	}
	if got := w.Summary(end.Add(time.Minute)); got != (rate.Summary{}) {
		t.Errorf("a minute later: %+v, want nothing", got)
	}
	w.Observe(end.Add(time.Hour), time.Second, false)
	if got := w.Summary(end.Add(time.Hour)); got.Count != 1 {
		t.Errorf("an hour later: %d, want the new one alone", got.Count)
	}
}

func TestTheRateOfAYoungWindowIsByItsAge(t *testing.T) {
	var w rate.Window
	for range 100 {
		w.Observe(noon(), time.Millisecond, false)
	}
	if got := w.Summary(noon().Add(2 * time.Second)).PerSecond; got != 50 {
		t.Errorf("100 in the first two seconds: %v a second, want 50", got)
	}
}

func TestWhatIsLateIsNotCountedIntoANewerMinute(t *testing.T) {
	var w rate.Window
	w.Observe(noon(), time.Millisecond, false)
	w.Observe(noon().Add(-time.Minute), time.Millisecond, false)
	if got := w.Summary(noon()).Count; got != 1 {
		t.Errorf("%d, want 1", got)
	}
}

func TestQuantilesAreWithinAnEighth(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		var w rate.Window
		times := make([]time.Duration, 1+random.IntN(500))
		scale := math.Pow(10, 2+5.5*random.Float64()) // up to about 30 s
		for i := range times {
			times[i] = time.Duration(scale*random.Float64()) * time.Microsecond
			w.Observe(noon(), times[i], false)
		}
		slices.Sort(times)
		got := w.Summary(noon())
		for _, q := range []struct {
			got     time.Duration
			percent int
		}{{got.P50, 50}, {got.P99, 99}} {
			want := times[(len(times)*q.percent+99)/100-1]
			if off := (q.got - want).Abs(); off > want/8+8*time.Microsecond {
				t.Fatalf("round %d: p%d of %d is %v, the window says %v", round, q.percent, len(times), want, q.got)
			}
		}
	}
}

func TestNoTimeIsOutOfRange(t *testing.T) {
	var w rate.Window
	for _, took := range []time.Duration{math.MinInt64, -1, 0, 1, time.Hour, math.MaxInt64} {
		w.Observe(noon(), took, false)
	}
	if got := w.Summary(noon()); got.Count != 6 || got.P99 < 50*time.Second {
		t.Errorf("%+v", got)
	}
}

func TestNothingIsLostWhileSlotsAreReplaced(t *testing.T) {
	const each, clients = 20000, 8
	var w rate.Window
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			for i := range each { // 55 seconds in all
				w.Observe(noon().Add(time.Duration(i)*55*time.Second/each), time.Millisecond, true)
				if i%1000 == 0 {
					w.Summary(noon().Add(time.Duration(i) * 55 * time.Second / each))
				}
			}
		})
	}
	running.Wait()
	if got := w.Summary(noon().Add(54 * time.Second)); got.Count != each*clients || got.Failed != each*clients {
		t.Errorf("%d counted and %d failed, want %d of both", got.Count, got.Failed, each*clients)
	}
}

func TestObserveDoesNotAllocate(t *testing.T) {
	var w rate.Window
	w.Observe(noon(), time.Millisecond, false)
	if n := testing.AllocsPerRun(1000, func() { w.Observe(noon(), time.Millisecond, true) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	var w rate.Window
	now := noon()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w.Observe(now, 137*time.Microsecond, false)
		}
	})
}

func BenchmarkSummary(b *testing.B) {
	var w rate.Window
	for i := range 60 {
		w.Observe(noon().Add(time.Duration(i)*time.Second), time.Duration(i)*time.Millisecond, false)
	}
	b.ReportAllocs()
	for b.Loop() {
		w.Summary(noon().Add(59 * time.Second))
	}
}
