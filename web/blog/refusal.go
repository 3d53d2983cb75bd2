package blog

// Refusal is our own no to an operation: it was not done and will not be, and to repeat
// it does not help. Whoever shows one has words for each of these constants.
type Refusal string

// Why an operation is refused.
const (
	// ErrTaken means that another entry with the same ID is already stored.
	ErrTaken Refusal = "another entry has this ID"
	// ErrSlugTaken means that another entry or blog has this address.
	ErrSlugTaken Refusal = "this address is taken"
	// ErrConflict means that it has been changed since it was read, or that the same
	// edit was stored with other words.
	ErrConflict Refusal = "this was changed meanwhile"
	// ErrNotFound means that there is none, or no longer.
	ErrNotFound Refusal = "not found"
	// ErrNoBlog means that the blog of an entry does not exist, or no longer.
	ErrNoBlog Refusal = "there is no such blog, or no longer"
	// ErrLogin means that name and password do not belong together.
	ErrLogin Refusal = "name or password is wrong"
	// ErrThrottled means that too many logins have failed; AttemptsFor later it
	// may be tried again.
	ErrThrottled Refusal = "too many failed logins"
	// ErrNameTaken means that there is an administrator of this name.
	ErrNameTaken Refusal = "there is an administrator of this name"
	// ErrOneself means that somebody would lock himself out.
	ErrOneself Refusal = "nobody disables or deletes himself"
	// ErrNotActive means that whoever asks for it is no longer an administrator, or is
	// disabled.
	ErrNotActive Refusal = "you are no longer an active administrator"
)

// Error returns the reason.
func (r Refusal) Error() string { return string(r) }

func (Refusal) outcome() Outcome { return Refused }

// NoLoginError means that a password is changed, and that the login that was to follow
// could not be stored: every login of the account has ended.
type NoLoginError struct{ Err error }

// Error says both.
func (e *NoLoginError) Error() string {
	return "the password is changed, but there is no new login: " + e.Err.Error()
}

// Unwrap returns why there is no new login.
func (e *NoLoginError) Unwrap() error { return e.Err }

func (*NoLoginError) outcome() Outcome { return Acked }
