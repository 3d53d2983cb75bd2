// Package retry decides whether a request that failed at one instance goes to
// another.
//
// It may if nothing of it was processed, or if its method promises that twice is
// the same as once and no byte of an answer came back. It must fit the budget. A
// refusal by policy is an answer: it is not asked again elsewhere, and costs the
// budget nothing. So is an answer that tells the client to come back later.
package retry

import (
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/budget"
)

// Progress is how far an attempt got before it failed.
type Progress uint8

const (
	// Answered means that at least one byte of the response came back. It is the
	// zero value, so that what is not known is not repeated.
	Answered Progress = iota
	// Sent means that bytes of the request were sent, and that the instance may have
	// processed it.
	Sent
	// Refused means that bytes were sent, but the instance said that it processed
	// none: REFUSED_STREAM or a GOAWAY that excludes the stream (RFC 9113, sections
	// 8.7 and 6.8), or the connection broke in the handshake.
	Refused
	// Unsent means that not one byte of the request was sent.
	Unsent
)

// Attempt is what is known about an attempt that has ended.
type Attempt struct {
	Outcome  balance.Outcome
	Progress Progress
	// TimedOut is true if the attempt ended because its time was over. Once sent, it
	// is not repeated: an upstream that is slow would get the same work again.
	TimedOut bool
	// Method is the request's.
	Method string
	// BodyUsed is true if bytes of the request's body were taken from the client and
	// are not kept.
	BodyUsed bool
	// Number of attempts made, this one included, and the Limit for them.
	Number, Limit int
	// Another is true if there may be another instance to pick.
	Another bool
}

// Reason is why a request is tried again, or not.
type Reason string

// The reasons against come in the order in which they are looked for.
const (
	Succeeded    Reason = "it succeeded"
	ComeBack     Reason = "the instance says when to come back"
	Forbidden    Reason = "policy forbids the call, and would elsewhere"
	GivenUp      Reason = "the client left"
	HasAnswer    Reason = "the answer had begun"
	BodyGone     Reason = "the request's body is used up"
	OutOfTime    Reason = "its time is over"
	Processed    Reason = "it may have been processed, and the method is not idempotent"
	LimitReached Reason = "it was tried as often as it may be"
	NobodyElse   Reason = "there is no other instance"
	NoBudget     Reason = "the retry budget is spent"

	NothingSent  Reason = "nothing was sent"
	NotProcessed Reason = "the instance refused it before processing"
	Repeatable   Reason = "the method is idempotent and no answer had begun"
)

// Decide reports whether the request may be tried again at another instance, and
// why. A true spends one attempt of b; a false spends nothing. A nil b is a budget
// without limits.
func Decide(now time.Time, a Attempt, b *budget.Budget) (again bool, reason Reason) {
	again, reason = a.repeatable()
	switch {
	case !again:
		return false, reason
	case a.Number >= a.Limit:
		return false, LimitReached
	case !a.Another:
		return false, NobodyElse
	case b != nil && !b.Take(now):
		return false, NoBudget
	}
	return true, reason
}

// repeatable judges by what happened alone.
func (a Attempt) repeatable() (bool, Reason) {
	switch {
	case a.Outcome == balance.Success:
		return false, Succeeded
	case a.Outcome == balance.Deferred:
		return false, ComeBack
	case a.Outcome == balance.Policy:
		return false, Forbidden
	case !a.Outcome.Failure():
		return false, GivenUp
	case a.Progress == Answered || a.Progress > Unsent:
		return false, HasAnswer
	case a.BodyUsed:
		return false, BodyGone
	case a.Progress == Unsent:
		return true, NothingSent
	case a.Progress == Refused:
		return true, NotProcessed
	case a.TimedOut:
		return false, OutOfTime
	case !Idempotent(a.Method):
		return false, Processed
	}
	return true, Repeatable
}

// Idempotent reports whether a method promises that several requests have the
// effect of one (RFC 9110, section 9.2.2). Methods are case-sensitive.
func Idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}
