package blog

import (
	"errors"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"sluice/mesh"
)

// Why a write is refused, beside ErrTaken.
var (
	// ErrSlugTaken means that another entry or blog has this address.
	ErrSlugTaken = errors.New("this address is taken")
	// ErrConflict means that somebody else has changed it since it was read.
	ErrConflict = errors.New("somebody else has changed this meanwhile")
	// ErrNotFound means that there is none, or no longer.
	ErrNotFound = errors.New("not found")
	// ErrNoBlog means that the blog of an entry does not exist, or no longer.
	ErrNoBlog = errors.New("there is no such blog, or no longer")
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

// OutcomeOf tells from a write's error what became of it.
func OutcomeOf(err error) Outcome {
	var underWay *underWayError
	var doubtful *doubtfulError
	var unsent *unsentError
	var answer mongo.ServerError
	var write mongo.WriteException
	switch {
	case err == nil:
		return Acked
	case errors.As(err, &unsent):
		return Refused
	case errors.As(err, &underWay), errors.As(err, &doubtful):
		return Unknown
	case refusal(err), errors.Is(err, mesh.ErrDenied):
		return Refused
	case errors.As(err, &write) && write.WriteConcernError != nil:
		return Unknown
	case errors.As(err, &answer) && !transient(answer):
		return Refused
	default:
		return Unknown
	}
}

// refusal reports whether err is our own refusal, that repeating cannot change.
func refusal(err error) bool {
	for _, known := range []error{ErrTaken, ErrSlugTaken, ErrConflict, ErrNotFound, ErrNoBlog, ErrThrottled, ErrLogin, ErrNameTaken, ErrOneself, ErrNotActive} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// underWayError is a denial that met an operation under way, which may have been
// done before.
type underWayError struct{ denied *mesh.DeniedError }

func (e *underWayError) Error() string { return e.denied.Error() }
func (e *underWayError) Unwrap() error { return e.denied }

// doubtfulError is a server's refusal of an attempt after one that got no answer. It
// says nothing of what became of that one.
type doubtfulError struct{ error }

func (e *doubtfulError) Unwrap() error { return e.error }

// judged is the error of the last attempt in the light of those before it, of which
// doubt says that one may have been done.
func judged(err error, doubt bool) error {
	// What we refuse ourselves was read from a majority, the earlier attempt included.
	if doubt && OutcomeOf(err) == Refused && !refusal(err) {
		return &doubtfulError{err}
	}
	return err
}
