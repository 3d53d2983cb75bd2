package blog

import (
	"errors"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"sluice/mesh"
)

// Outcome is what became of a write.
type Outcome int

// The outcomes.
const (
	// Acked: a majority of the members has it.
	Acked Outcome = iota
	// Refused: it was not done and will not be.
	Refused
	// Unknown: it may have been done, or may still be; sending it again tells.
	Unknown
)

// String returns "acked", "refused" or "unknown".
func (o Outcome) String() string {
	return [...]string{"acked", "refused", "unknown"}[o]
}

// OutcomeOf tells from a write's error what became of it. The errors of this package
// know it themselves.
func OutcomeOf(err error) Outcome {
	var own interface{ outcome() Outcome }
	var answer mongo.ServerError
	var write mongo.WriteException
	switch {
	case err == nil:
		return Acked
	case errors.As(err, &own):
		return own.outcome()
	case errors.Is(err, mesh.ErrDenied):
		return Refused
	case errors.As(err, &write) && write.WriteConcernError != nil:
		return Unknown
	case errors.As(err, &answer) && !transient(answer):
		return Refused
	default:
		return Unknown
	}
}

// outcome is what the driver says of it: a denial of the way tells what becomes of the
// next connection, and nothing of what had left by the one before.
func (e *Error) outcome() Outcome {
	if e.Driver == nil {
		return Unknown
	}
	return OutcomeOf(e.Driver)
}

// refusal reports whether err is our own refusal.
func refusal(err error) bool {
	var own Refusal
	return errors.As(err, &own)
}

// underWayError is a denial that met an operation under way, which may have been
// done before.
type underWayError struct{ denied *mesh.DeniedError }

func (e *underWayError) Error() string { return e.denied.Error() }
func (e *underWayError) Unwrap() error { return e.denied }

func (*underWayError) outcome() Outcome { return Unknown }

// doubtfulError is a server's refusal of an attempt after one that got no answer. It
// says nothing of what became of that one.
type doubtfulError struct{ error }

func (e *doubtfulError) Unwrap() error { return e.error }

func (*doubtfulError) outcome() Outcome { return Unknown }

// judged is the error of the last attempt in the light of those before it, of which
// doubt says that one may have been done.
func judged(err error, doubt bool) error {
	// What we refuse ourselves was read from a majority, the earlier attempt included.
	if doubt && OutcomeOf(err) == Refused && !refusal(err) {
		return &doubtfulError{err}
	}
	return err
}
