package balance

// Outcome is how one attempt at an endpoint ended, as far as its health is
// concerned. The list is closed on purpose: a refusal by policy cannot be
// written down as a failure, so it can neither eject an endpoint nor make it look
// slow.
type Outcome uint8

const (
	// Canceled is an attempt that was given up before it was answered: the client
	// left, or another attempt was faster. It says nothing about the endpoint and
	// changes nothing.
	Canceled Outcome = iota
	// Success is an answer of which the endpoint need not be ashamed; a 404 is one.
	Success
	// OriginFailure is an answer 5xx, or none within the time after the request was
	// sent.
	OriginFailure
	// LocalFailure is a connection that did not come to be: dial, TLS, timeout of
	// either.
	LocalFailure
	// Policy is an attempt that intentions or an identity forbid: a denial, a
	// certificate of somebody else. It says nothing about the endpoint's health and
	// changes nothing.
	Policy
	// Deferred is an answer 503 that says when to come back (Retry-After): the endpoint
	// refuses on purpose, as under maintenance. It says nothing about its health: it is no
	// failure, and neither ejects nor brings back. But until the next Success the endpoint
	// gets no request because it has little in flight or is fast, which it is for
	// refusing, and for two seconds it stands back behind those that do not defer.
	Deferred
)

// Outcomes is how many there are, for what counts them.
const Outcomes = int(Deferred) + 1

// String returns the outcome in words, for logs.
func (o Outcome) String() string {
	switch o {
	case Canceled:
		return "canceled"
	case Success:
		return "success"
	case OriginFailure:
		return "origin failure"
	case LocalFailure:
		return "local failure"
	case Policy:
		return "policy"
	case Deferred:
		return "deferred"
	}
	return "unknown"
}

// Failure reports whether the outcome counts against the endpoint.
func (o Outcome) Failure() bool { return o == OriginFailure || o == LocalFailure }
