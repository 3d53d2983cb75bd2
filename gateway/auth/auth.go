// Package auth checks the credentials that a client shows: basic authentication
// (RFC 7617) against password files with bcrypt hashes.
//
// A Guard has one set of users per scheme, replaced as a whole when the file
// changes. A file that cannot be read or understood is refused as a whole, and
// the users read before it stay, because a slip of an editor must not open or
// close a service; Problems says so. A scheme that is not known lets nobody in.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/files"
)

const (
	// DefaultInterval is how often the files are looked at.
	DefaultInterval = 2 * time.Second
	// maxCredentials bounds the header that is looked at, in bytes.
	maxCredentials = 4096
	// maxWait bounds how long a request waits for its turn to be checked.
	maxWait = 5 * time.Second
)

// Config is what a Guard is made of.
type Config struct {
	Schemes []Scheme
	// Interval is how often Run looks at the files; 0 is DefaultInterval.
	Interval time.Duration
	// Parallel bounds the passwords that are compared at once, each of which takes a
	// processor for some 50 ms; 0 is half the processors.
	Parallel int
	// Changed is called after each change of a file, and each new problem with one; may be
	// nil. It is called by one goroutine at a time, and not for Open. It must not call
	// Reload.
	Changed func(Change)
	// Logger gets a line per change of a file and per problem; nil is silent.
	Logger *slog.Logger
}

// Guard knows the users of all schemes. It is safe for concurrent use.
type Guard struct {
	interval time.Duration
	logger   *slog.Logger
	changed  func(Change)
	// reloading is held while files are looked at.
	reloading sync.Mutex
	schemes   map[string]*scheme
	turns     chan struct{}
	salt      [sha256.Size]byte
}

// scheme is a Scheme with what its file holds now.
type scheme struct {
	Scheme
	header string
	users  atomic.Pointer[known]

	mu      sync.Mutex
	problem error
}

// Open reads all files. It fails if any of them is missing or malformed, because
// at the start nothing is lost by saying so.
func Open(cfg Config) (*Guard, error) {
	g := &Guard{interval: cfg.Interval, logger: cfg.Logger, schemes: map[string]*scheme{}}
	if g.interval <= 0 {
		g.interval = DefaultInterval
	}
	if g.changed = cfg.Changed; g.changed == nil {
		g.changed = func(Change) {}
	}
	if g.logger == nil {
		g.logger = slog.New(slog.DiscardHandler)
	}
	parallel := cfg.Parallel
	if parallel <= 0 {
		parallel = max(1, runtime.GOMAXPROCS(0)/2)
	}
	g.turns = make(chan struct{}, parallel)
	_, _ = rand.Read(g.salt[:]) // it never fails
	for _, s := range cfg.Schemes {
		if err := s.validate(); err != nil {
			return nil, err
		}
		if g.schemes[s.Name] != nil {
			return nil, fmt.Errorf("auth scheme %s: it is declared twice", s.Name)
		}
		one := &scheme{Scheme: s, header: s.challenge()}
		if _, err := one.load(); err != nil {
			return nil, err
		}
		g.schemes[s.Name] = one
	}
	return g, nil
}

// Run looks at the files until ctx ends.
func (g *Guard) Run(ctx context.Context) error {
	return files.Follow(ctx, g.interval, g.Reload)
}

// Reload looks at all files once and takes what has changed.
func (g *Guard) Reload() {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	for _, s := range g.schemes {
		began, before := time.Now(), s.users.Load()
		changed, err := s.load()
		after := s.users.Load()
		fresh, mended := s.note(err)
		switch {
		case fresh:
			g.logger.Error("password file refused; the users read before stay", "scheme", s.Name, "err", err)
			g.changed(Change{Scheme: s.Name, Problem: err, Took: time.Since(began)})
		case changed, mended:
			g.logger.Info("password file read", "scheme", s.Name, "users", len(after.hashes))
			g.changed(changeOf(s.Name, before, after, time.Since(began)))
		}
	}
}

// Problems returns, by scheme, why the file was refused when it was last looked
// at. It is empty if all is well.
func (g *Guard) Problems() map[string]error {
	problems := map[string]error{}
	for name, s := range g.schemes {
		s.mu.Lock()
		if s.problem != nil {
			problems[name] = s.problem
		}
		s.mu.Unlock()
	}
	return problems
}

// load reads the file and reports whether its content is another than before.
func (s *scheme) load() (changed bool, err error) {
	data, err := files.Read(s.File, maxFile)
	if err != nil {
		return false, fmt.Errorf("read password file %s: %w", s.File, err)
	}
	old := s.users.Load()
	if old != nil && old.sum == sha256.Sum256(data) {
		return false, nil
	}
	parsed, err := parsePasswords(data)
	if err != nil {
		return false, fmt.Errorf("read password file %s: %w", s.File, err)
	}
	s.users.Store(&known{passwords: parsed})
	return true, nil
}

// note keeps the problem of the last look and reports whether it is a new one, or one
// before is over.
func (s *scheme) note(err error) (fresh, mended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh = err != nil && (s.problem == nil || s.problem.Error() != err.Error())
	mended = err == nil && s.problem != nil
	s.problem = err
	return fresh, mended
}

// Check gives the verdict on the value of an Authorization header for a scheme.
// A request with several such headers has no credentials: pass "". It waits for
// at most 5 s, or until ctx ends, when many passwords are compared at once.
// Credentials that were found right before cost about a microsecond.
func (g *Guard) Check(ctx context.Context, name, authorization string) Verdict {
	s := g.schemes[name]
	if s == nil {
		return Verdict{Reason: UnknownScheme}
	}
	v := Verdict{Challenge: s.header}
	if authorization == "" {
		v.Reason = Missing
		return v
	}
	user, password, err := parseCredentials(authorization)
	if err != nil {
		v.Reason = Malformed
		return v
	}
	users := s.users.Load()
	key := g.key(user, password)
	switch {
	case users.remembered(key):
		v.Reason = Granted
	case !g.turn(ctx):
		v.Reason = Busy
		return v
	default:
		v.Reason = Wrong
		if users.match(user, password) {
			users.remember(key)
			v.Reason = Granted
		}
		<-g.turns
	}
	if v.Reason == Granted {
		v.User = user
	}
	return v
}

// turn waits for a place among those that compare passwords.
func (g *Guard) turn(ctx context.Context) bool {
	select {
	case g.turns <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case g.turns <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

// parseCredentials reads "Basic BASE64" (RFC 7617, section 2), strictly. Its
// error says nothing, because whatever it could say is a secret.
func parseCredentials(authorization string) (user, password string, err error) {
	malformed := errors.New("malformed credentials")
	kind, text, found := strings.Cut(authorization, " ")
	if !found || len(authorization) > maxCredentials || !strings.EqualFold(kind, "Basic") {
		return "", "", malformed
	}
	data, err := base64.StdEncoding.Strict().DecodeString(strings.Trim(text, " "))
	if err != nil {
		return "", "", malformed
	}
	user, password, found = strings.Cut(string(data), ":")
	if !found || user == "" || len(password) > maxPassword || strings.ContainsFunc(string(data), isControl) {
		return "", "", malformed
	}
	return user, password, nil
}
