package retry_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/budget"
	"sluice/gateway/retry"
)

func start() time.Time { return time.Unix(1_800_000_000, 0) }

// failed is an attempt that may be repeated whatever the method.
func failed() retry.Attempt {
	return retry.Attempt{
		Outcome: balance.LocalFailure, Progress: retry.Unsent, Method: "POST", Number: 1, Limit: 3, Another: true,
	}
}

func TestDecisions(t *testing.T) {
	cases := []struct {
		name   string
		change func(*retry.Attempt)
		want   retry.Reason
		again  bool
	}{
		{"a POST that was not sent", func(*retry.Attempt) {}, retry.NothingSent, true},
		{"the dial timed out", func(a *retry.Attempt) { a.TimedOut = true }, retry.NothingSent, true},
		{"a POST that was refused", func(a *retry.Attempt) { a.Progress, a.Outcome = retry.Refused, balance.OriginFailure }, retry.NotProcessed, true},
		{"a POST that was sent", func(a *retry.Attempt) { a.Progress = retry.Sent }, retry.Processed, false},
		{"a GET that was sent", func(a *retry.Attempt) { a.Progress, a.Method = retry.Sent, "GET" }, retry.Repeatable, true},
		{"a get that was sent", func(a *retry.Attempt) { a.Progress, a.Method = retry.Sent, "get" }, retry.Processed, false},
		{"a PUT that was sent", func(a *retry.Attempt) { a.Progress, a.Method = retry.Sent, "PUT" }, retry.Repeatable, true},
		{"a PUT whose body is gone", func(a *retry.Attempt) { a.Progress, a.Method, a.BodyUsed = retry.Sent, "PUT", true }, retry.BodyGone, false},
		{"unsent, but the body is gone", func(a *retry.Attempt) { a.BodyUsed = true }, retry.BodyGone, false},
		{"a GET that timed out", func(a *retry.Attempt) { a.Progress, a.Method, a.TimedOut = retry.Sent, "GET", true }, retry.OutOfTime, false},
		{"a GET answered 503", func(a *retry.Attempt) {
			a.Progress, a.Method, a.Outcome = retry.Answered, "GET", balance.OriginFailure
		}, retry.HasAnswer, false},
		{"a GET that is asked to come back", func(a *retry.Attempt) {
			a.Progress, a.Method, a.Outcome = retry.Answered, "GET", balance.Deferred
		}, retry.ComeBack, false},
		{"denied before anything was sent", func(a *retry.Attempt) { a.Outcome = balance.Policy }, retry.Forbidden, false},
		{"the client left", func(a *retry.Attempt) { a.Outcome = balance.Canceled }, retry.GivenUp, false},
		{"success", func(a *retry.Attempt) { a.Outcome = balance.Success }, retry.Succeeded, false},
		{"an outcome that does not exist", func(a *retry.Attempt) { a.Outcome = 77 }, retry.GivenUp, false},
		{"a progress that does not exist", func(a *retry.Attempt) { a.Progress = 77 }, retry.HasAnswer, false},
		{"the last attempt", func(a *retry.Attempt) { a.Number = 3 }, retry.LimitReached, false},
		{"the only instance", func(a *retry.Attempt) { a.Another = false }, retry.NobodyElse, false},
		{"nothing known", func(a *retry.Attempt) { *a = retry.Attempt{} }, retry.GivenUp, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := failed()
			c.change(&a)
			b := budget.New(budget.Config{})
			again, reason := retry.Decide(start(), a, b)
			if again != c.again || reason != c.want {
				t.Errorf("%v, %q; want %v, %q", again, reason, c.again, c.want)
			}
			if spent := b.Left(start()) != 100; spent != again {
				t.Errorf("spent is %v", spent)
			}
			if unlimited, _ := retry.Decide(start(), a, nil); unlimited != again {
				t.Errorf("without a budget: %v", unlimited)
			}
		})
	}
}

func TestSpentBudgetEndsRetries(t *testing.T) {
	b := budget.New(budget.Config{Ratio: -1, PerSecond: 0.1})
	if again, _ := retry.Decide(start(), failed(), b); !again {
		t.Fatal("the first one is refused")
	}
	if again, reason := retry.Decide(start(), failed(), b); again || reason != retry.NoBudget {
		t.Errorf("%v, %q", again, reason)
	}
}

func TestNoRetryWhereSomethingMayHappenTwice(t *testing.T) {
	const seed = 8
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 8))
	methods := []string{"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "CONNECT", "", "X"}
	retries := 0
	for range 20_000 {
		a := retry.Attempt{
			Outcome: balance.Outcome(r.IntN(7)), Progress: retry.Progress(r.IntN(5)), TimedOut: r.IntN(2) == 0,
			Method: methods[r.IntN(len(methods))], BodyUsed: r.IntN(2) == 0, Number: r.IntN(5), Limit: r.IntN(5), Another: r.IntN(2) == 0,
		}
		again, reason := retry.Decide(start(), a, nil)
		if !again {
			continue
		}
		retries++
		unprocessed := a.Progress == retry.Unsent || a.Progress == retry.Refused
		unanswered := a.Progress == retry.Sent && retry.Idempotent(a.Method)
		if !unprocessed && !unanswered || a.BodyUsed || !a.Another || a.Number >= a.Limit || !a.Outcome.Failure() {
			t.Fatalf("%+v is tried again: %s", a, reason)
		}
	}
	if retries == 0 {
		t.Error("nothing was tried again")
	}
}
