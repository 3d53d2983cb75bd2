package balance_test

import (
	"math"
	"testing"

	"sluice/gateway/balance"
	"sluice/gateway/tag"
)

func TestARoundGoesOnAcrossRebuilds(t *testing.T) {
	for _, shares := range [][]float64{{1, 1, 1, 1}, {.4, .2, .2, .2}, {.3, .3, .2, .2}} {
		for each := 1; each <= 8; each++ {
			_, es := endpoints(len(shares), balance.Ejection{})
			var turn balance.Turn
			counts, sum := make([]float64, len(shares)), 0.0
			for range 4000 {
				p := balance.NewPicker(balance.Config{Strategy: tag.RoundRobin, Members: members(es, shares...), SlowStart: -1, Turn: &turn})
				for range each {
					pick := must(t, p, balance.Request{Now: start()})
					pick.Release()
					counts[pick.Index]++
				}
			}
			for _, share := range shares {
				sum += share
			}
			for i, n := range counts {
				if got, want := n/float64(4000*each), shares[i]/sum; math.Abs(got-want) > .01 {
					t.Errorf("%d requests between two changes, shares %v: member %d got %.3f, want %.3f", each, shares, i, got, want)
				}
			}
		}
	}
}

func TestNoShareIsTooGreatOrTooSmallToMeanSomething(t *testing.T) {
	for _, strategy := range strategies() {
		for _, factor := range []float64{math.SmallestNonzeroFloat64, 1e-300, 1, 1e300, math.MaxFloat64} {
			_, es := endpoints(3, balance.Ejection{})
			p := balance.NewPicker(balance.Config{
				Strategy: strategy, Members: members(es, factor, factor, factor), SlowStart: -1, Random: seeded(t, 9).Uint64,
			})
			for i, n := range count(t, p, 3, 1, even) {
				if part := float64(n) / picks; math.Abs(part-1./3) > .02 {
					t.Errorf("%s, shares of %g: member %d got %.3f", strategy, factor, i, part)
				}
			}
		}
		// Beside a great one, a small one gets what the other cannot take.
		_, es := endpoints(2, balance.Ejection{})
		p := balance.NewPicker(balance.Config{Strategy: strategy, Members: members(es, math.MaxFloat64, math.SmallestNonzeroFloat64)})
		if pick := try(t, p, balance.Request{Now: start(), Tried: es[:1]}, balance.Success); pick.Index != 1 {
			t.Errorf("%s: picked the one that was tried", strategy)
		}
		two := balance.NewPicker(balance.Config{Strategy: strategy, Members: members(es, math.MaxFloat64, math.MaxFloat64/2), SlowStart: -1})
		if n := count(t, two, 2, 1, even); math.Abs(float64(n[0])/picks-2./3) > .02 {
			t.Errorf("%s: of two shares, one twice the other, became %v", strategy, n)
		}
	}
}
