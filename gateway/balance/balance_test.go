package balance_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/tag"
)

func strategies() []tag.Strategy {
	return []tag.Strategy{tag.P2C, tag.RoundRobin, tag.Random, tag.Hash, tag.EWMA}
}

// start is when every test begins.
func start() time.Time { return time.Unix(1_800_000_000, 0) }

// keyed returns n instances of datacenter dc1.
func keyed(n int) []balance.Instance {
	instances := make([]balance.Instance, n)
	for i := range instances {
		instances[i] = balance.Instance{Key: fmt.Sprint("web-", i), Datacenter: "dc1"}
	}
	return instances
}

// endpoints returns n endpoints of one new group.
func endpoints(n int, ejection balance.Ejection) (*balance.Group, []*balance.Endpoint) {
	group := balance.NewGroup(ejection)
	return group, group.Update(start(), keyed(n))
}

// members gives each endpoint a share; without shares all are equal.
func members(endpoints []*balance.Endpoint, shares ...float64) []balance.Member {
	all := make([]balance.Member, len(endpoints))
	for i, e := range endpoints {
		all[i] = balance.Member{Endpoint: e, Share: 1}
		if len(shares) > 0 {
			all[i].Share = shares[i]
		}
	}
	return all
}

func must(t testing.TB, p *balance.Picker, r balance.Request) balance.Pick {
	t.Helper()
	pick, err := p.Pick(r)
	if err != nil {
		t.Fatalf("pick: %v", err)
	}
	return pick
}

// try makes one attempt from begin to end.
func try(t testing.TB, p *balance.Picker, r balance.Request, outcome balance.Outcome) balance.Pick {
	t.Helper()
	pick := must(t, p, r)
	pick.Report(r.Now, outcome, time.Millisecond)
	pick.Release()
	return pick
}

// fail makes the endpoint fail n times.
func fail(t testing.TB, e *balance.Endpoint, now time.Time, outcome balance.Outcome, n int) {
	t.Helper()
	p := balance.NewPicker(balance.Config{Members: members([]*balance.Endpoint{e})})
	for range n {
		try(t, p, balance.Request{Now: now}, outcome)
	}
}

func seeded(t testing.TB, seed uint64) *rand.Rand {
	t.Helper()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 5))
}

func TestNobodyToPickIsAnErrorThatSaysWhy(t *testing.T) {
	_, es := endpoints(2, balance.Ejection{})
	one := []balance.Member{{Endpoint: es[0], Share: 1, Limit: 1}}
	for _, strategy := range strategies() {
		t.Run(string(strategy), func(t *testing.T) {
			none := balance.NewPicker(balance.Config{Strategy: strategy})
			if _, err := none.Pick(balance.Request{Now: start()}); !errors.Is(err, balance.ErrNone) {
				t.Errorf("without members: %v", err)
			}
			p := balance.NewPicker(balance.Config{Strategy: strategy, Members: one})
			if _, err := p.Pick(balance.Request{Now: start(), Tried: es}); !errors.Is(err, balance.ErrTried) {
				t.Errorf("all tried: %v", err)
			}
			pick := must(t, p, balance.Request{Now: start()})
			if _, err := p.Pick(balance.Request{Now: start()}); !errors.Is(err, balance.ErrOverflow) {
				t.Errorf("full: %v", err)
			}
			pick.Release()
			es[0].Drain(true)
			if _, err := p.Pick(balance.Request{Now: start()}); !errors.Is(err, balance.ErrNone) {
				t.Errorf("draining: %v", err)
			}
			es[0].Drain(false)
			elsewhere := balance.NewPicker(balance.Config{Strategy: strategy, Members: one, Datacenters: []string{"dc2"}})
			if _, err := elsewhere.Pick(balance.Request{Now: start()}); !errors.Is(err, balance.ErrNone) {
				t.Errorf("in another datacenter: %v", err)
			}
		})
	}
}

func TestFullEndpointIsPassedOverAndReported(t *testing.T) {
	for _, strategy := range strategies() {
		_, es := endpoints(2, balance.Ejection{})
		all := members(es)
		all[0].Limit = 1
		p := balance.NewPicker(balance.Config{Strategy: strategy, Members: all})
		taken, overflowed := 0, 0
		for i := range 100 {
			pick := must(t, p, balance.Request{Now: start(), Hash: uint64(i)})
			if pick.Index == 0 {
				taken++
			}
			if pick.Overflow {
				overflowed++
			}
		}
		if taken != 1 || overflowed == 0 {
			t.Errorf("%s: the endpoint with place for one got %d, and overflow was reported %d times", strategy, taken, overflowed)
		}
	}
}

func TestShareOfNothingGetsNothing(t *testing.T) {
	for _, strategy := range strategies() {
		_, es := endpoints(2, balance.Ejection{})
		p := balance.NewPicker(balance.Config{Strategy: strategy, Members: members(es, 1, 0)})
		for i := range 200 {
			if pick := must(t, p, balance.Request{Now: start(), Hash: uint64(i)}); pick.Index != 0 {
				t.Fatalf("%s picked the endpoint without a share", strategy)
			}
		}
		if _, err := p.Pick(balance.Request{Now: start(), Tried: es[:1]}); !errors.Is(err, balance.ErrTried) {
			t.Errorf("%s: %v", strategy, err)
		}
	}
}

func TestLaterDatacenterServesOnlyWhenTheEarlierCannot(t *testing.T) {
	near := balance.NewGroup(balance.Ejection{}).Update(start(), []balance.Instance{{Key: "a", Datacenter: "dc1"}, {Key: "b", Datacenter: "dc1"}})
	far := balance.NewGroup(balance.Ejection{}).Update(start(), []balance.Instance{{Key: "c", Datacenter: "dc2"}})
	for _, strategy := range strategies() {
		p := balance.NewPicker(balance.Config{
			Strategy: strategy, Members: members(append(far[:1:1], near...)), Datacenters: []string{"dc1", "dc2"},
		})
		tier := func(tried ...*balance.Endpoint) int {
			pick := try(t, p, balance.Request{Now: start(), Tried: tried}, balance.Success)
			if far := pick.Tier == 1; far != (pick.Index == 0) {
				t.Errorf("%s: tier %d but member %d", strategy, pick.Tier, pick.Index)
			}
			return pick.Tier
		}
		if got := tier(); got != 0 {
			t.Errorf("%s: tier %d while dc1 is there", strategy, got)
		}
		if got := tier(near[0]); got != 0 {
			t.Errorf("%s: tier %d while half of dc1 is left", strategy, got)
		}
		near[0].Drain(true)
		if got := tier(near[1]); got != 1 {
			t.Errorf("%s: tier %d when dc1 is draining and tried", strategy, got)
		}
		near[0].Drain(false)
	}
}

func TestInFlightReturnsToZeroAfterAnySequence(t *testing.T) {
	for _, strategy := range strategies() {
		group, es := endpoints(5, balance.Ejection{Base: time.Millisecond})
		all := members(es, 0.1, 0.2, 0.3, 0.2, 0.2)
		all[1].Limit = 3
		p := balance.NewPicker(balance.Config{Strategy: strategy, Members: all})
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(worker), 6))
				var held []balance.Pick
				now := start()
				for range 2000 {
					now = now.Add(time.Duration(r.IntN(1000)) * time.Microsecond)
					if pick, err := p.Pick(balance.Request{Now: now, Hash: r.Uint64()}); err == nil {
						held = append(held, pick)
					}
					for len(held) > r.IntN(4) {
						last := held[len(held)-1]
						held = held[:len(held)-1]
						if r.IntN(3) > 0 {
							last.Report(now, balance.Outcome(r.IntN(6)), time.Duration(r.IntN(1e6)))
						}
						last.Release()
					}
					if n := es[1].InFlight(); n > 3 {
						t.Errorf("%s: %d in flight to an endpoint that takes 3", strategy, n)
					}
				}
				for _, pick := range held {
					pick.Release()
				}
			})
		}
		wg.Wait()
		out := 0
		for i, e := range es {
			if n := e.InFlight(); n != 0 {
				t.Errorf("%s: %d in flight to endpoint %d", strategy, n, i)
			}
			if !e.Status(start()).EjectedUntil.IsZero() {
				out++
			}
		}
		if ejected, of := group.Ejected(); ejected != out || of != 5 {
			t.Errorf("%s: the group counts %d of %d ejected, but they are %d", strategy, ejected, of, out)
		}
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	_, es := endpoints(10, balance.Ejection{})
	fail(t, es[3], start(), balance.LocalFailure, 2)
	for _, strategy := range strategies() {
		for _, some := range [][]*balance.Endpoint{es[:1], es[4:], es} {
			p := balance.NewPicker(balance.Config{Strategy: strategy, Members: members(some)})
			n := testing.AllocsPerRun(100, func() {
				tried := [1]*balance.Endpoint{es[9]}
				pick, err := p.Pick(balance.Request{Now: start(), Tried: tried[:]})
				if err != nil {
					t.Fatal(err)
				}
				pick.Report(start(), balance.Success, time.Millisecond)
				pick.Release()
			})
			if n != 0 {
				t.Errorf("%s among %d: %v allocations", strategy, len(some), n)
			}
		}
	}
}
