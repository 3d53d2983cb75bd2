package auth

import (
	"crypto/sha256"
	"sync"
)

// Reason says why credentials were accepted or not.
type Reason uint8

// The reasons of a Verdict. All but Granted are refusals, the zero Reason too.
const (
	// UnknownScheme: the route names a scheme that is not configured.
	UnknownScheme Reason = iota
	// Missing: the request has no credentials.
	Missing
	// Malformed: the header is not basic authentication, or breaks its rules.
	Malformed
	// Wrong: no such user, or another password.
	Wrong
	// Busy: too many passwords are being compared.
	Busy
	// Granted: the user's password is right.
	Granted
)

// String returns the reason in words.
func (r Reason) String() string {
	switch r {
	case Missing:
		return "credentials are missing"
	case Malformed:
		return "credentials are malformed"
	case Wrong:
		return "user or password is wrong"
	case Busy:
		return "too many credentials are being checked"
	case Granted:
		return "credentials are right"
	default:
		return "the authentication scheme is not configured"
	}
}

// Verdict is what a Guard says about one request.
type Verdict struct {
	Reason Reason
	// User is who the client has proved to be; "" unless Granted.
	User string
	// Challenge is the value of WWW-Authenticate for a status of 401. It is "" where
	// no credentials would help, which is a status of 403.
	Challenge string
}

// Allowed reports whether the client may go on.
func (v Verdict) Allowed() bool { return v.Reason == Granted }

// maxRemembered bounds what known remembers.
const maxRemembered = 4096

// known is one content of a password file, with the credentials that were found
// right against it: a browser sends its own with each request, and bcrypt is
// slow on purpose.
type known struct {
	*passwords
	mu    sync.RWMutex
	right map[[sha256.Size]byte]struct{}
}

// key stands for credentials. The salt is this process's own and is never
// written down.
func (g *Guard) key(user, password string) [sha256.Size]byte {
	text := make([]byte, 0, 256)
	text = append(text, g.salt[:]...)
	text = append(text, user...) // it holds no colon
	text = append(text, ':')
	text = append(text, password...)
	return sha256.Sum256(text)
}

func (k *known) remembered(key [sha256.Size]byte) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	_, ok := k.right[key]
	return ok
}

func (k *known) remember(key [sha256.Size]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.right == nil || len(k.right) >= maxRemembered {
		k.right = map[[sha256.Size]byte]struct{}{}
	}
	k.right[key] = struct{}{}
}
