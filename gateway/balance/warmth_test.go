package balance_test

import (
	"fmt"
	"testing"
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/tag"
)

// sharing wants the members of a group, of whom all but the last are warm, to get their
// parts at one moment, with the last as warm as it is said to be.
func sharing(t *testing.T, p *balance.Picker, now time.Time, members int, warmth float64) {
	t.Helper()
	const requests = 20_000
	counts := make([]int, 2)
	for i := range requests {
		if try(t, p, balance.Request{Now: now, Hash: uint64(i) * 0x9E3779B97F4A7C15}, balance.Success).Index == members-1 {
			counts[1]++
		} else {
			counts[0]++
		}
	}
	part := warmth / (float64(members-1) + warmth)
	if x := chiSquare(counts, []float64{1 - part, part}); x > farFetched(1) {
		t.Errorf("%v of %d requests at the last of %d, want %.1f %%: chi-square %.1f", counts, requests, members, 100*part, x)
	}
}

func TestAnEndpointThatJoinsGetsItsShareLittleByLittle(t *testing.T) {
	for _, strategy := range strategies() {
		t.Run(string(strategy), func(t *testing.T) {
			group, _ := endpoints(4, balance.Ejection{})
			joined := start().Add(time.Minute)
			es := group.Update(joined, keyed(5))
			p := balance.NewPicker(balance.Config{Strategy: strategy, Members: members(es), SlowStart: 10 * time.Second, Random: seeded(t, 19).Uint64})
			for after, warmth := range map[time.Duration]float64{0: .05, 5 * time.Second: .5, 9 * time.Second: .9, 10 * time.Second: 1} {
				t.Run(fmt.Sprint(after), func(t *testing.T) { sharing(t, p, joined.Add(after), 5, warmth) })
			}
		})
	}
}

func TestSlowStartIsForThoseWhoLeaveOthersTheLoad(t *testing.T) {
	later := start().Add(time.Hour)
	for name, c := range map[string]struct {
		update    func(group *balance.Group) []*balance.Endpoint
		slowStart time.Duration
		warmth    float64
	}{
		"all of a group that is new": {func(*balance.Group) []*balance.Endpoint {
			return balance.NewGroup(balance.Ejection{}).Update(later, keyed(3))
		}, 0, 1},
		"one that joins":          {func(g *balance.Group) []*balance.Endpoint { return g.Update(later, keyed(3)) }, 0, .05},
		"one that joins, without": {func(g *balance.Group) []*balance.Endpoint { return g.Update(later, keyed(3)) }, -1, 1},
		"one that was there all the time": {func(g *balance.Group) []*balance.Endpoint {
			g.Update(start(), keyed(3))
			return g.Update(later, keyed(3))
		}, 0, 1},
		"one that comes back": {func(g *balance.Group) []*balance.Endpoint {
			g.Update(start(), keyed(3))
			g.Update(later, keyed(2))
			return g.Update(later, keyed(3))
		}, 0, .05},
		"all that come back after nobody was left": {func(g *balance.Group) []*balance.Endpoint {
			g.Update(start(), keyed(3))
			g.Update(later, nil)
			return g.Update(later, keyed(3))
		}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			group, _ := endpoints(2, balance.Ejection{})
			p := balance.NewPicker(balance.Config{Members: members(c.update(group)), SlowStart: c.slowStart, Random: seeded(t, 23).Uint64})
			for i, m := range p.Explain(balance.Request{Now: later}).Members {
				if want := map[bool]float64{true: c.warmth, false: 1}[i == 2]; m.Warmth != want {
					t.Errorf("endpoint %d has the warmth %v, want %v", i, m.Warmth, want)
				}
			}
			sharing(t, p, later, 3, c.warmth)
		})
	}
}

func TestWhoFailsFastIsNotPreferred(t *testing.T) {
	never := balance.Ejection{Origin: -1, Local: -1}
	for _, outcome := range []balance.Outcome{balance.OriginFailure, balance.LocalFailure} {
		for name, one := range map[string]int{"always": 1, "every second time": 2, "every tenth time": 10} {
			t.Run(fmt.Sprint(outcome, " ", name), func(t *testing.T) {
				_, es := endpoints(2, never)
				p := balance.NewPicker(balance.Config{Strategy: tag.EWMA, Members: members(es), SlowStart: -1, Random: seeded(t, 29).Uint64})
				const requests = 20_000
				now, bad := start(), 0
				for range requests {
					now = now.Add(time.Millisecond)
					pick := must(t, p, balance.Request{Now: now})
					result, took := balance.Success, 20*time.Millisecond
					if pick.Index == 0 {
						if bad++; bad%one == 0 {
							result, took = outcome, 50*time.Microsecond
						}
					}
					pick.Report(now, result, took)
					pick.Release()
				}
				if bad > requests/100 {
					t.Errorf("the one that fails got %d of %d", bad, requests)
				}
			})
		}
	}
}
