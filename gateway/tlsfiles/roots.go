package tlsfiles

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/files"
)

// maxRoots bounds a file of roots, in bytes.
const maxRoots = 4 << 20

// RootsConfig is what Roots are made of.
type RootsConfig struct {
	// File holds the certificates, PEM.
	File string
	// Changed is called after each change but the first, by who has called Reload; nil
	// is not. Pool returns the new roots by then.
	Changed func()
	// Interval is how often Run looks at the file; 0 is DefaultInterval.
	Interval time.Duration
	// Logger gets a line per change and per problem; nil is silent.
	Logger *slog.Logger
}

// Roots are certificates of authorities in a file that may change. A file that is
// missing or malformed changes nothing. It is safe for concurrent use.
type Roots struct {
	cfg  RootsConfig
	live atomic.Pointer[x509.CertPool]

	mu      sync.Mutex
	looked  [sha256.Size]byte // the sum of what was last looked at
	problem error
}

// OpenRoots reads the file, and fails if it cannot be used.
func OpenRoots(cfg RootsConfig) (*Roots, error) {
	if cfg.Interval <= 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Roots{cfg: cfg}
	if err := r.Reload(); err != nil {
		return nil, err
	}
	return r, nil
}

// Pool returns the roots of this moment. It is another pool after each change, and
// nobody changes it.
func (r *Roots) Pool() *x509.CertPool { return r.live.Load() }

// Run looks at the file until ctx ends.
func (r *Roots) Run(ctx context.Context) error {
	// The error has been logged, and is kept for Problem.
	return files.Follow(ctx, r.cfg.Interval, func() { _ = r.Reload() })
}

// Reload looks at the file once. If it has changed, its roots are those of Pool
// from now on, or the error says why not and those before stay.
func (r *Roots) Reload() error {
	changed, err := r.look()
	if changed && r.cfg.Changed != nil {
		r.cfg.Changed()
	}
	return err
}

// look is Reload without the call, which comes when nothing is locked any more.
func (r *Roots) look() (changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data, err := files.Read(r.cfg.File, maxRoots)
	sum := sha256.Sum256(data)
	if err != nil {
		sum = sha256.Sum256([]byte(err.Error()))
	}
	if sum == r.looked {
		return false, r.problem
	}
	r.looked, r.problem = sum, nil
	var pool *x509.CertPool
	count := 0
	if err == nil {
		pool, count, err = parseRoots(data)
	}
	before := r.live.Load()
	if err != nil {
		r.problem = fmt.Errorf("load roots %s: %w", r.cfg.File, err)
		if before != nil {
			r.cfg.Logger.Error("roots of clients refused; those before stay", "file", r.cfg.File, "err", err)
		}
		return false, r.problem
	}
	if before != nil && before.Equal(pool) {
		return false, nil
	}
	r.live.Store(pool)
	r.cfg.Logger.Info("roots of clients loaded", "file", r.cfg.File, "roots", count)
	return before != nil, nil
}

// Problem returns why the file was refused when it was last looked at, and nil if
// Pool is what it holds.
func (r *Roots) Problem() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem
}

// parseRoots takes all of a file or nothing: of one that is half written, the
// roots that are there already would lock the clients of the others out.
func parseRoots(data []byte) (*x509.CertPool, int, error) {
	pool, count := x509.NewCertPool(), 0
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if block.Type != "CERTIFICATE" {
			continue // a key beside it is nobody's root
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, 0, fmt.Errorf("certificate %d: %w", count+1, err)
		}
		pool.AddCert(certificate)
		count++
	}
	switch {
	case bytes.Contains(data, []byte("-----BEGIN")):
		return nil, 0, fmt.Errorf("what follows certificate %d is cut off or malformed", count)
	case count == 0:
		return nil, 0, errors.New("there is no certificate in it")
	}
	return pool, count, nil
}
