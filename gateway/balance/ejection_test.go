package balance_test

import (
	"fmt"
	"testing"
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/tag"
)

func ejectedUntil(e *balance.Endpoint) time.Duration {
	until := e.Status(start()).EjectedUntil
	if until.IsZero() {
		return 0
	}
	return until.Sub(start())
}

func TestFailuresInARowEject(t *testing.T) {
	const (
		success, origin = balance.Success, balance.OriginFailure
		local, policy   = balance.LocalFailure, balance.Policy
		canceled        = balance.Canceled
		deferred        = balance.Deferred
	)
	cases := []struct {
		name     string
		outcomes []balance.Outcome
		ejected  bool
	}{
		{"too few of the origin", []balance.Outcome{origin, origin, origin, origin}, false},
		{"enough of the origin", []balance.Outcome{origin, origin, origin, origin, origin}, true},
		{"a success between", []balance.Outcome{origin, origin, success, origin, origin, origin, origin}, false},
		{"too few local ones", []balance.Outcome{local}, false},
		{"enough local ones", []balance.Outcome{local, local}, true},
		{"a connection between", []balance.Outcome{local, origin, local}, false},
		{"denials", []balance.Outcome{policy, policy, policy, policy, policy, policy, policy}, false},
		{"refusals on purpose", []balance.Outcome{deferred, deferred, deferred, deferred, deferred, deferred, deferred}, false},
		{"refusals on purpose do not make up for failures", []balance.Outcome{origin, origin, deferred, origin, origin, origin}, true},
		{"given up", []balance.Outcome{canceled, canceled, canceled, canceled, canceled, canceled}, false},
		{"denials do not interrupt", []balance.Outcome{local, policy, canceled, local}, true},
		{"nor do they make up for failures", []balance.Outcome{origin, origin, policy, origin, origin, origin}, true},
		{"an outcome that does not exist", []balance.Outcome{9, 9, 9, 9, 9, 9, 9}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, es := endpoints(2, balance.Ejection{})
			for _, outcome := range c.outcomes {
				fail(t, es[0], start(), outcome, 1)
			}
			if got := ejectedUntil(es[0]) > 0; got != c.ejected {
				t.Errorf("after %v: ejected is %v", c.outcomes, got)
			}
		})
	}
}

func TestPolicyCancellationAndRefusalsOnPurposeLeaveNoTrace(t *testing.T) {
	_, es := endpoints(1, balance.Ejection{})
	fail(t, es[0], start(), balance.Success, 1)
	fail(t, es[0], start(), balance.OriginFailure, 2)
	before := es[0].Status(start())
	fail(t, es[0], start(), balance.Policy, 50)
	fail(t, es[0], start(), balance.Canceled, 50)
	fail(t, es[0], start(), balance.Deferred, 50)
	after := es[0].Status(start())
	if !after.Deferred || after.DeferringFor != 2*time.Second {
		t.Errorf("that it defers is not told: %+v", after)
	}
	if after.Deferred, after.DeferringFor = false, 0; after != before {
		t.Errorf("%+v became %+v", before, after)
	}
}

func TestEjectionGrowsUpToItsBoundAndShrinksInCalm(t *testing.T) {
	_, es := endpoints(1, balance.Ejection{Base: 10 * time.Second, Max: 35 * time.Second})
	now, e := start(), es[0]
	fail(t, e, now, balance.OriginFailure, 5)
	for i, want := range []time.Duration{10, 20, 30, 35, 35} {
		until := e.Status(now).EjectedUntil
		if got := until.Sub(now); got != want*time.Second {
			t.Fatalf("ejection %d takes %v, want %v s", i+1, got, want)
		}
		now = until
		fail(t, e, now, balance.OriginFailure, 1) // the trial
	}
	now = e.Status(now).EjectedUntil
	fail(t, e, now, balance.Success, 1)
	if until := e.Status(now).EjectedUntil; !until.IsZero() {
		t.Fatalf("after a trial that succeeded it is ejected until %v", until)
	}
	now = now.Add(time.Hour)
	fail(t, e, now, balance.LocalFailure, 2)
	if got := e.Status(now).EjectedUntil.Sub(now); got != 10*time.Second {
		t.Errorf("after an hour without a failure it is ejected for %v", got)
	}
}

func TestOneRequestAtATimeIsTheTrial(t *testing.T) {
	for _, strategy := range strategies() {
		_, es := endpoints(3, balance.Ejection{})
		fail(t, es[0], start(), balance.LocalFailure, 2)
		p := balance.NewPicker(balance.Config{Strategy: strategy, Members: members(es)})
		for i := range 200 {
			if pick := try(t, p, balance.Request{Now: start(), Hash: uint64(i)}, balance.Canceled); pick.Index == 0 || pick.Panic {
				t.Fatalf("%s picked an ejected endpoint: %+v", strategy, pick)
			}
		}
		now := start().Add(10 * time.Second)
		var trial balance.Pick
		trials := 0
		for i := range 400 {
			pick := must(t, p, balance.Request{Now: now, Hash: uint64(i)})
			if pick.Trial {
				trial = pick
				trials++
			} else if pick.Index == 0 {
				t.Fatalf("%s picked it beside its trial", strategy)
			}
		}
		if trials != 1 {
			t.Fatalf("%s: %d trials", strategy, trials)
		}
		trial.Report(now, balance.Canceled, 0)
		trial.Release()
		if ejectedUntil(es[0]) == 0 {
			t.Fatalf("%s: a trial without an outcome brought it back", strategy)
		}
		again := balance.NewPicker(balance.Config{Strategy: strategy, Members: members(es[:1])})
		if pick := try(t, again, balance.Request{Now: now}, balance.Success); !pick.Trial {
			t.Errorf("%s: no second trial after one that was given up", strategy)
		}
		if ejectedUntil(es[0]) != 0 {
			t.Errorf("%s: a trial that succeeded did not bring it back", strategy)
		}
	}
}

func TestTrialThatIsOverDoesNothingToTheNext(t *testing.T) {
	_, es := endpoints(3, balance.Ejection{})
	fail(t, es[0], start(), balance.LocalFailure, 2)
	alone := balance.NewPicker(balance.Config{Members: members(es[:1])})
	now := start().Add(10 * time.Second)
	old := must(t, alone, balance.Request{Now: now})
	old.Report(now, balance.LocalFailure, 0)
	now = es[0].Status(now).EjectedUntil
	next := must(t, alone, balance.Request{Now: now})
	old.Report(now, balance.Success, 0)
	old.Release()
	p := balance.NewPicker(balance.Config{Members: members(es)})
	for range 200 {
		if pick := try(t, p, balance.Request{Now: now}, balance.Canceled); pick.Index == 0 {
			t.Fatal("it is picked although its trial is out")
		}
	}
	next.Report(now, balance.Success, 0)
	if ejectedUntil(es[0]) != 0 {
		t.Error("the trial that counts did not")
	}
}

func TestEjectionStaysWithinItsCap(t *testing.T) {
	for _, c := range []struct{ size, percent, want int }{
		{1, 50, 1}, {2, 50, 1}, {3, 50, 1}, {4, 50, 2}, {5, 10, 1}, {10, 10, 1}, {20, 10, 2}, {5, 100, 5}, {9, 34, 3},
	} {
		group, es := endpoints(c.size, balance.Ejection{Percent: c.percent})
		for _, e := range es {
			fail(t, e, start(), balance.OriginFailure, 20)
		}
		if got, of := group.Ejected(); got != c.want || of != c.size {
			t.Errorf("%d of %d ejected at %d %%, want %d", got, of, c.percent, c.want)
		}
	}
}

func TestEjectionNeverGoesBeyondItsCapInAnySequence(t *testing.T) {
	for seed := range uint64(20) {
		r := seeded(t, seed)
		percent := 1 + r.IntN(100)
		group, es := endpoints(12, balance.Ejection{Percent: percent, Base: time.Second})
		p := balance.NewPicker(balance.Config{Strategy: tag.Random, Members: members(es)})
		now, before := start(), 0
		for range 2000 {
			now = now.Add(time.Duration(r.IntN(200)) * time.Millisecond)
			switch r.IntN(20) {
			case 0:
				es = group.Update(now, keyed(1+r.IntN(12)))
				p = balance.NewPicker(balance.Config{Strategy: tag.Random, Members: members(es)})
				before, _ = group.Ejected()
			default:
				try(t, p, balance.Request{Now: now}, balance.Outcome(r.IntN(6)))
			}
			out, of := group.Ejected()
			counted := 0
			for _, e := range es {
				if !e.Status(now).EjectedUntil.IsZero() {
					counted++
				}
			}
			if out != counted || of != len(es) {
				t.Fatalf("the group counts %d of %d, but they are %d of %d", out, of, counted, len(es))
			}
			if out > before && out > 1 && out*100 > percent*of {
				t.Fatalf("one more ejected: %d of %d at %d %%", out, of, percent)
			}
			before = out
		}
	}
}

func TestEjectedAreUsedAgainWhenLessThanHalfAreLeft(t *testing.T) {
	for _, strategy := range strategies() {
		for ejected := range 6 {
			_, es := endpoints(5, balance.Ejection{Percent: 100})
			for _, e := range es[:ejected] {
				fail(t, e, start(), balance.OriginFailure, 5)
			}
			p := balance.NewPicker(balance.Config{Strategy: strategy, Members: members(es)})
			want, used := ejected > 2, false
			for i := range 300 {
				pick := try(t, p, balance.Request{Now: start(), Hash: uint64(i)}, balance.Canceled)
				if pick.Panic != want {
					t.Fatalf("%s with %d of 5 ejected: panic is %v", strategy, ejected, pick.Panic)
				}
				used = used || pick.Index < ejected
			}
			if used != want {
				t.Errorf("%s with %d of 5 ejected: ejected ones used is %v", strategy, ejected, used)
			}
		}
	}
}

// TestWhereEveryInstanceFailsEveryRequestStillReachesOne is an outage of what all of them
// need, and its end.
func TestWhereEveryInstanceFailsEveryRequestStillReachesOne(t *testing.T) {
	for _, strategy := range strategies() {
		for n := range 8 {
			group, es := endpoints(n+1, balance.Ejection{Max: 20 * time.Second})
			p := balance.NewPicker(balance.Config{Strategy: strategy, Members: members(es), Datacenters: []string{"dc1", "dc2"}, SlowStart: -1})
			now, most := start(), 0
			for i := range 3000 { // a minute
				now = now.Add(20 * time.Millisecond)
				try(t, p, balance.Request{Now: now, Hash: uint64(i)}, balance.OriginFailure)
				if out, of := group.Ejected(); out > max(1, of/2) {
					t.Fatalf("%s: %d of %d are ejected", strategy, out, of)
				} else if out > most {
					most = out
				}
			}
			if most != max(1, (n+1)/2) {
				t.Errorf("%s: at most %d of %d were ejected, so it shows little", strategy, most, n+1)
			}
			for i := range 3000 {
				now = now.Add(20 * time.Millisecond)
				try(t, p, balance.Request{Now: now, Hash: uint64(i)}, balance.Success)
			}
			if out, of := group.Ejected(); out > 0 {
				t.Errorf("%s: a minute after the outage %d of %d are ejected", strategy, out, of)
			}
		}
	}
}

func TestEjectedDatacenterIsLeftForTheNext(t *testing.T) {
	near := balance.NewGroup(balance.Ejection{}).Update(start(), []balance.Instance{{Key: "a", Datacenter: "dc1"}})
	far := balance.NewGroup(balance.Ejection{}).Update(start(), []balance.Instance{{Key: "b", Datacenter: "dc2"}})
	fail(t, near[0], start(), balance.LocalFailure, 2)
	p := balance.NewPicker(balance.Config{Members: members(append(near[:1:1], far...)), Datacenters: []string{"dc1", "dc2"}})
	if pick := try(t, p, balance.Request{Now: start()}, balance.Success); pick.Tier != 1 || pick.Panic {
		t.Errorf("%+v, want the other datacenter and no panic", pick)
	}
	if pick := try(t, p, balance.Request{Now: start(), Tried: far}, balance.Canceled); pick.Tier != 0 || !pick.Panic {
		t.Errorf("%+v, want the ejected one as the last resort", pick)
	}
	later := start().Add(10 * time.Second)
	if pick := try(t, p, balance.Request{Now: later}, balance.Success); pick.Tier != 0 || !pick.Trial {
		t.Errorf("%+v, want a trial", pick)
	}
}

func TestStateSurvivesUpdatesByKey(t *testing.T) {
	group, es := endpoints(3, balance.Ejection{})
	fail(t, es[1], start(), balance.LocalFailure, 2)
	held := must(t, balance.NewPicker(balance.Config{Members: members(es[:1])}), balance.Request{Now: start()})
	same := group.Update(start(), keyed(3))
	if fmt.Sprint(same) != fmt.Sprint(es) {
		t.Fatal("an update without a change made other endpoints")
	}
	old := balance.NewPicker(balance.Config{Members: members(es)})
	group.Update(start(), keyed(3)[1:])
	for range 100 {
		if pick := try(t, old, balance.Request{Now: start()}, balance.Canceled); pick.Index == 0 {
			t.Fatal("an old picker picks what is gone")
		}
	}
	hour := start().Add(time.Hour)
	group.Update(hour, keyed(3)[1:])
	if back := group.Update(hour, keyed(3)); back[0] != es[0] || back[0].InFlight() != 1 {
		t.Error("an endpoint with a request in flight was forgotten")
	}
	held.Release()
	group.Update(hour, keyed(3)[1:])
	group.Update(hour.Add(time.Hour), keyed(3)[1:])
	if back := group.Update(hour.Add(time.Hour), keyed(3)); back[0] == es[0] {
		t.Error("an endpoint that was gone for an hour is still known")
	}
}

func TestFlappingDoesNotEscapeEjectionAndReturnIsATrial(t *testing.T) {
	group, es := endpoints(3, balance.Ejection{})
	fail(t, es[0], start(), balance.LocalFailure, 2)
	group.Update(start(), keyed(3)[1:])
	if out, of := group.Ejected(); out != 0 || of != 2 {
		t.Errorf("without it, %d of %d are ejected", out, of)
	}
	back := group.Update(start().Add(time.Second), keyed(3))
	if out, _ := group.Ejected(); back[0] != es[0] || out != 1 {
		t.Errorf("it escaped: %d ejected", out)
	}
	alone := balance.NewPicker(balance.Config{Members: members(back[:1])})
	if pick := try(t, alone, balance.Request{Now: start().Add(time.Second)}, balance.Success); !pick.Trial {
		t.Errorf("%+v, want a trial at once", pick)
	}
	if ejectedUntil(back[0]) != 0 {
		t.Error("it is not back")
	}
}
