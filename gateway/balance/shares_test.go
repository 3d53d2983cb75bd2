package balance_test

import (
	"math"
	"testing"
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/tag"
)

const picks = 100_000

// farFetched is the value of chi-square with df degrees of freedom beyond which
// chance alone does not explain counts: about one in three million (Wilson and
// Hilferty, 1931, at five standard deviations).
func farFetched(df int) float64 {
	a := 2 / (9 * float64(df))
	return float64(df) * math.Pow(1-a+5*math.Sqrt(a), 3)
}

// chiSquare compares counts with what the parts, which add up to 1, make expected.
func chiSquare(counts []int, parts []float64) (sum float64) {
	total := 0
	for _, n := range counts {
		total += n
	}
	for i, n := range counts {
		if want := parts[i] * float64(total); want > 0 {
			sum += (float64(n) - want) * (float64(n) - want) / want
		}
	}
	return sum
}

// count makes many picks, of which some stay in flight for a while, and returns
// how many each member got.
func count(t *testing.T, p *balance.Picker, members, inFlight int, latency func(index int) time.Duration) []int {
	t.Helper()
	counts := make([]int, members)
	now := start()
	open := make([]balance.Pick, 0, inFlight)
	for i := range picks {
		now = now.Add(100 * time.Microsecond)
		pick := must(t, p, balance.Request{Now: now, Hash: uint64(i) * 0x9E3779B97F4A7C15})
		counts[pick.Index]++
		open = append(open, pick)
		if len(open) >= inFlight {
			open[0].Report(now, balance.Success, latency(open[0].Index))
			open[0].Release()
			open = append(open[:0], open[1:]...)
		}
	}
	for _, pick := range open {
		pick.Release()
	}
	return counts
}

func even(int) time.Duration { return time.Millisecond }

func TestWeightsConvergeUnderEveryStrategy(t *testing.T) {
	for _, parts := range [][]float64{
		{.05, .1, .2, .3, .35},
		{.01, .99},
		{.2, .2, .2, .2, .2},
		{.001, .333, .333, .333},
		{.05, .475, .475, 0},
	} {
		for _, strategy := range strategies() {
			_, es := endpoints(len(parts), balance.Ejection{})
			p := balance.NewPicker(balance.Config{
				Strategy: strategy, Members: members(es, parts...), SlowStart: -1, Random: seeded(t, 7).Uint64,
			})
			counts := count(t, p, len(parts), 1, even)
			for i, n := range counts {
				if parts[i] == 0 && n > 0 {
					t.Errorf("%s: a member without a share got %d", strategy, n)
				}
			}
			if x := chiSquare(counts, parts); x > farFetched(len(parts)-1) {
				t.Errorf("%s: shares %v became %v: chi-square %.1f, want at most %.1f", strategy, parts, counts, x, farFetched(len(parts)-1))
			}
		}
	}
}

// A canary's share is a decision of the operator's, which neither load nor latency
// overrules. They decide among the others, which are alike.
func TestACanaryGetsItsShareHoweverFastOrBusyItIs(t *testing.T) {
	parts := []float64{.05, .2375, .2375, .2375, .2375}
	for _, strategy := range []tag.Strategy{tag.P2C, tag.EWMA, tag.RoundRobin, tag.Random} {
		for name, latency := range map[string]func(int) time.Duration{
			"fast": func(i int) time.Duration { return time.Duration(1+1000*i) * time.Microsecond },
			"slow": func(i int) time.Duration { return time.Duration(5000-1000*i) * time.Microsecond },
		} {
			_, es := endpoints(len(parts), balance.Ejection{})
			p := balance.NewPicker(balance.Config{
				Strategy: strategy, Members: members(es, parts...), SlowStart: -1, Random: seeded(t, 11).Uint64,
			})
			counts := count(t, p, len(parts), 40, latency)
			canary := []int{counts[0], picks - counts[0]}
			if x := chiSquare(canary, []float64{.05, .95}); x > farFetched(1) {
				t.Errorf("%s, a %s canary: %v, chi-square %.1f, want at most %.1f", strategy, name, counts, x, farFetched(1))
			}
		}
	}
}

// The one who answers slowest of those that are alike gets the least.
func TestLatencyDecidesAmongEndpointsThatAreAlike(t *testing.T) {
	_, es := endpoints(4, balance.Ejection{})
	p := balance.NewPicker(balance.Config{Strategy: tag.EWMA, Members: members(es), SlowStart: -1, Random: seeded(t, 13).Uint64})
	counts := count(t, p, 4, 1, func(i int) time.Duration {
		if i == 2 {
			return 20 * time.Millisecond
		}
		return time.Millisecond
	})
	if counts[2] > picks/20 {
		t.Errorf("the slow one of four got %v of %d", counts, picks)
	}
}
