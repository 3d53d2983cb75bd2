// Package hedge decides whether a request that waits for its answer is sent to a
// second instance as well, of which the first answer counts (Dean and Barroso,
// "The Tail at Scale", 2013). Only routes that ask for it are hedged, only GET and
// HEAD, and what it costs comes from the budget of retries.
//
// The attempt that loses is balance.Canceled: being slower once says nothing about
// an instance.
package hedge

import (
	"time"

	"sluice/gateway/budget"
)

// Percentile is the quantile of recent latencies after which a route without a
// delay of its own hedges: one request in twenty.
const Percentile = 0.95

// floor keeps an adaptive delay from being so short that the timer costs more than
// it gains.
const floor = time.Millisecond

// Reason is why a request is hedged, or not.
type Reason string

// The reasons, those against in the order in which they are looked for.
const (
	WrongMethod Reason = "only GET and HEAD are sent twice"
	HasBody     Reason = "a request with a body is not sent twice"
	Learning    Reason = "too few latencies are known"
	NotAsked    Reason = "the route does not ask for it"
	HasAnswer   Reason = "the answer has begun"
	Over        Reason = "the attempt is over"
	Hedged      Reason = "it has been hedged before"
	NobodyElse  Reason = "there is no other instance"
	NoBudget    Reason = "the retry budget is spent"
	Waited      Reason = "it waited for as long as the route says"
)

// Route is how a route hedges.
type Route struct {
	// After is the delay; 0 leaves it to Recent.
	After time.Duration
	// Recent estimates Percentile of the route's latencies; nil, with After 0, is
	// that the route does not hedge.
	Recent *Quantile
}

// Request is the part of a request that matters before it is sent.
type Request struct {
	Method string
	// Body is true if the request has a body, or may have.
	Body bool
}

// Delay returns after what time without an answer Decide is to be asked, and
// Waited; or 0 if that is never, and why.
func (r Route) Delay(request Request) (time.Duration, Reason) {
	switch {
	case r.After <= 0 && r.Recent == nil:
		return 0, NotAsked
	case request.Method != "GET" && request.Method != "HEAD":
		return 0, WrongMethod
	case request.Body:
		return 0, HasBody
	case r.After > 0:
		return r.After, Waited
	}
	recent, known := r.Recent.Value()
	if !known {
		return 0, Learning
	}
	return max(floor, recent), Waited
}

// Waiting is the state of a request when its delay is over.
type Waiting struct {
	// Answered is true if a byte of the answer came, Over if the attempt failed or
	// was given up: then retry.Decide has the word.
	Answered, Over bool
	// Attempts is how many are out at the moment.
	Attempts int
	// Another is true if there may be another instance to pick.
	Another bool
}

// Decide reports whether the request is sent to a second instance now, and why. A
// true spends one attempt of b; a false spends nothing. A nil b is a budget
// without limits.
func Decide(now time.Time, w Waiting, b *budget.Budget) (bool, Reason) {
	switch {
	case w.Answered:
		return false, HasAnswer
	case w.Over:
		return false, Over
	case w.Attempts != 1:
		return false, Hedged
	case !w.Another:
		return false, NobodyElse
	case b != nil && !b.Take(now):
		return false, NoBudget
	}
	return true, Waited
}
