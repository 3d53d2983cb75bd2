// Package tlsfiles serves TLS certificates from files that may change while the
// process runs.
//
// The files are read as a whole, and what is served is replaced as a whole, by
// one atomic store. If one of them is missing or malformed, or does not fit its
// key, everything that was served before stays, and Problem says why: a renewal
// that is half written is seen as such and tried again.
package tlsfiles

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/files"
)

// DefaultInterval is how often the files are looked at; Fabio's default too.
const DefaultInterval = 3 * time.Second

// Config is what a Store is made of.
type Config struct {
	// Dir is a folder of certificates, "" for none: NAME.pem with certificate and
	// key, NAME-cert.pem with NAME-key.pem, or NAME.crt with NAME.key.
	Dir string
	// Files are single certificates. They come before those of Dir; the first of all
	// is for clients that ask for no name, or for one that no certificate has.
	Files []Pair
	// Strict refuses those clients instead, with the alert unrecognized_name.
	Strict bool
	// Interval is how often Run looks at the files; 0 is DefaultInterval.
	Interval time.Duration
	// Now tells the time; nil is time.Now.
	Now func() time.Time
	// Tell is called after each change but the first, and each new problem, by who has
	// called Reload; nil is not.
	Tell func(Change)
	// Logger gets a line per change and per problem; nil is silent.
	Logger *slog.Logger
}

// Store holds the certificates. It is safe for concurrent use.
type Store struct {
	cfg  Config
	live atomic.Pointer[set]

	mu      sync.Mutex
	looked  [32]byte // the sum of what was last looked at
	problem error
}

// Open reads the certificates. It fails if any of them cannot be served, because
// at the start nothing is lost by saying so.
func Open(cfg Config) (*Store, error) {
	if cfg.Interval <= 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{cfg: cfg}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// Run looks at the files until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	// The error has been logged, and is kept for Problem.
	return files.Follow(ctx, s.cfg.Interval, func() { _ = s.Reload() })
}

// Reload looks at the files once. If they have changed, they are served from now
// on, for new connections, or the error says why not and what was served stays.
func (s *Store) Reload() error {
	began := time.Now()
	change, err := s.look()
	change.tellIn(s.cfg.Tell, began)
	return err
}

// look is Reload without the call, which comes when nothing is locked any more. It
// returns nil where there is no news.
func (s *Store) look() (*Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	content, err := s.cfg.read()
	if content.sum == s.looked {
		return nil, s.problem
	}
	s.looked, s.problem = content.sum, nil
	before := s.live.Load()
	var fresh *set
	if err == nil {
		fresh, err = content.parse()
	}
	if err != nil {
		s.problem = fmt.Errorf("load certificates: %w", err)
		if before == nil {
			return nil, s.problem
		}
		s.cfg.Logger.Error("certificates refused; those before stay", "err", err)
		return &Change{Problem: err}, s.problem
	}
	s.live.Store(fresh)
	now := s.cfg.Now()
	for _, info := range fresh.infos {
		s.cfg.Logger.Info("certificate loaded", "file", info.File, "names", info.Names, "serial", info.Serial, "not_after", info.NotAfter)
		if !now.Before(info.NotAfter) {
			s.cfg.Logger.Error("certificate has expired", "file", info.File, "not_after", info.NotAfter)
		}
	}
	if before == nil {
		return nil, nil
	}
	return changeOf(before.names(), fresh.names()), nil
}

// Problem returns why the files were refused when they were last looked at, and
// nil if what they hold is served.
func (s *Store) Problem() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problem
}

// Certificates describes what is served, the default first.
func (s *Store) Certificates() []Info { return slices.Clone(s.live.Load().infos) }

// Earliest returns when the first of the served certificates expires.
func (s *Store) Earliest() time.Time {
	var earliest time.Time
	for i, info := range s.live.Load().infos {
		if i == 0 || info.NotAfter.Before(earliest) {
			earliest = info.NotAfter
		}
	}
	return earliest
}

// TLSConfig returns a configuration for a listener: TLS 1.2 or later, HTTP/2 and
// HTTP/1.1. It follows the files by itself, and may be changed by the caller.
func (s *Store) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: s.certificate,
	}
}

// certificate returns nil where there is none, which crypto/tls turns into the
// alert unrecognized_name.
func (s *Store) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.live.Load().choose(hello, s.cfg.Strict, s.cfg.Now()), nil
}
