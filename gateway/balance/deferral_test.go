package balance_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/tag"
)

// behaviour is how an instance answers at a moment.
type behaviour func(now time.Time) (balance.Outcome, time.Duration)

func always(outcome balance.Outcome, takes time.Duration) behaviour {
	return func(time.Time) (balance.Outcome, time.Duration) { return outcome, takes }
}

// simulate sends n requests, one every interval, to instances that answer as they do,
// and returns which part of the requests each got.
func simulate(t *testing.T, strategy tag.Strategy, shares []float64, n int, interval time.Duration, instances ...behaviour) []float64 {
	t.Helper()
	_, es := endpoints(len(instances), balance.Ejection{})
	p := balance.NewPicker(balance.Config{
		Strategy: strategy, Members: members(es, shares...), SlowStart: -1, Random: seeded(t, 17).Uint64,
	})
	type flight struct {
		balance.Pick
		outcome balance.Outcome
		takes   time.Duration
		ends    time.Time
	}
	got := make([]float64, len(instances))
	var open []flight
	for i := range n {
		now := start().Add(time.Duration(i) * interval)
		left := open[:0]
		for _, f := range open {
			if f.ends.After(now) {
				left = append(left, f)
				continue
			}
			f.Report(f.ends, f.outcome, f.takes)
			f.Release()
		}
		open = left
		pick := must(t, p, balance.Request{Now: now, Hash: balance.Hash(time.Duration(i).String())})
		got[pick.Index] += 1 / float64(n)
		outcome, takes := instances[pick.Index](now)
		open = append(open, flight{pick, outcome, takes, now.Add(takes)})
	}
	return got
}

func TestAnInstanceThatDefersDrawsNoRequestsFromOneThatDoesNot(t *testing.T) {
	slow := always(balance.Success, 20*time.Millisecond)
	for _, c := range []struct {
		name      string
		interval  time.Duration
		instances []behaviour
		// most is what the first instance may get, where load is compared and elsewhere.
		most, mostElsewhere float64
	}{
		{"at 1,000 requests a second", time.Millisecond, []behaviour{always(balance.Deferred, time.Millisecond), slow}, .01, .52},
		{"refusing more slowly", time.Millisecond, []behaviour{always(balance.Deferred, 10*time.Millisecond), slow}, .01, .52},
		{"at a request every 3 s", 3 * time.Second, []behaviour{always(balance.Deferred, time.Millisecond), slow}, .52, .52},
		{"one of three", time.Millisecond, []behaviour{always(balance.Deferred, time.Millisecond), slow, slow}, .01, .35},
	} {
		for _, strategy := range strategies() {
			most := c.mostElsewhere
			if strategy == tag.P2C || strategy == tag.EWMA {
				most = c.most
			}
			got := simulate(t, strategy, nil, 10_000, c.interval, c.instances...)
			if share := got[0]; share > most {
				t.Errorf("%s, %s: the one that defers got %.1f %%, want at most %.1f %%", c.name, strategy, 100*share, 100*most)
			}
		}
	}
}

// What a refusal that changes nothing does is what Canceled does.
func TestWhereEveryInstanceDefersAllIsAsIfNoneDid(t *testing.T) {
	share := func(strategy tag.Strategy, outcome balance.Outcome) float64 {
		return simulate(t, strategy, nil, 10_000, time.Millisecond,
			always(outcome, time.Millisecond), always(outcome, 20*time.Millisecond))[0]
	}
	for _, strategy := range strategies() {
		if got, want := share(strategy, balance.Deferred), share(strategy, balance.Canceled); math.Abs(got-want) > .02 {
			t.Errorf("%s: the faster one of two got %.1f %%, want %.1f %%", strategy, 100*got, 100*want)
		}
	}
}

func TestWhatIsTooMuchForTheOwnerOfAKeyGoesToNobodyWhoDefers(t *testing.T) {
	_, es := endpoints(4, balance.Ejection{})
	hot := balance.Request{Now: start(), Hash: balance.Hash("everybody")}
	order := make([]*balance.Endpoint, 0, len(es)) // in which the key falls to them
	for range es {
		order = append(order, try(t, hashing(members(es)), balance.Request{Now: hot.Now, Hash: hot.Hash, Tried: order}, balance.Canceled).Endpoint)
	}
	inFlight := func(outcomes ...balance.Outcome) (got []int) {
		for i, e := range order {
			fail(t, e, hot.Now, outcomes[i], 1)
		}
		for range 100 {
			defer must(t, hashing(members(es)), hot).Release()
		}
		for _, e := range order {
			got = append(got, e.InFlight())
		}
		return got
	}
	const ok, no = balance.Success, balance.Deferred
	none := inFlight(ok, ok, ok, ok)
	for name, c := range map[string]struct{ got, want []int }{
		"the owner defers":  {inFlight(no, ok, ok, ok)[:1], none[:1]},
		"the second defers": {inFlight(ok, no, ok, ok), []int{42, 0, 42, 16}},
		"all defer":         {inFlight(no, no, no, no), none},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %v are in flight, want %v", name, c.got, c.want)
		}
	}
}

// An instance that defers for 5 s of 10 gets its share in the other five.
func TestAnInstanceThatDefersNoMoreGetsItsShareAgain(t *testing.T) {
	slow := always(balance.Success, 20*time.Millisecond)
	since := start().Add(5 * time.Second)
	later := 0
	mends := func(now time.Time) (balance.Outcome, time.Duration) {
		if now.Before(since) {
			return balance.Deferred, time.Millisecond
		}
		if !now.Before(since.Add(2100 * time.Millisecond)) {
			later++
		}
		return balance.Success, 20 * time.Millisecond
	}
	for _, strategy := range strategies() {
		later = 0
		simulate(t, strategy, nil, 10_000, time.Millisecond, mends, slow)
		if want := 2900. / 2; float64(later) < .9*want || float64(later) > 1.1*want {
			t.Errorf("%s: %d of 2900 from 2.1 s on after the last refusal, want about half", strategy, later)
		}
	}
}

// A share is a decision of the operator's, whatever the instance answers.
func TestACanaryThatDefersGetsItsShare(t *testing.T) {
	slow := always(balance.Success, 20*time.Millisecond)
	for _, strategy := range []tag.Strategy{tag.P2C, tag.EWMA, tag.RoundRobin, tag.Random} {
		got := simulate(t, strategy, []float64{.1, .45, .45}, 20_000, time.Millisecond, always(balance.Deferred, time.Millisecond), slow, slow)
		if share := got[0]; share < .09 || share > .11 {
			t.Errorf("%s: a canary of 10 %% got %.1f %%", strategy, 100*share)
		}
	}
}
