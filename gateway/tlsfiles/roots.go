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
	// Tell is called after that, and after each new problem; nil is not.
	Tell func(Change)
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
	names   []string          // of what is live
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
	began := time.Now()
	before := r.live.Load()
	news, err := r.look()
	if before != nil && before != r.live.Load() && r.cfg.Changed != nil {
		r.cfg.Changed()
	}
	news.tellIn(r.cfg.Tell, began)
	return err
}

// look is Reload without the calls, which come when nothing is locked any more. It
// returns nil where there is no news.
func (r *Roots) look() (*Change, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data, err := files.Read(r.cfg.File, maxRoots)
	sum := sha256.Sum256(data)
	if err != nil {
		sum = sha256.Sum256([]byte(err.Error()))
	}
	if sum == r.looked {
		return nil, r.problem
	}
	mended := r.problem != nil
	r.looked, r.problem = sum, nil
	var pool *x509.CertPool
	var names []string
	if err == nil {
		pool, names, err = parseRoots(data)
	}
	before := r.live.Load()
	if err != nil {
		r.problem = fmt.Errorf("load roots %s: %w", r.cfg.File, err)
		if before == nil {
			return nil, r.problem
		}
		r.cfg.Logger.Error("roots of clients refused; those before stay", "file", r.cfg.File, "err", err)
		return &Change{Problem: err}, r.problem
	}
	news := changeOf(r.names, names)
	r.names = names
	if before != nil && before.Equal(pool) {
		if mended {
			return news, nil
		}
		return nil, nil
	}
	r.live.Store(pool)
	r.cfg.Logger.Info("roots of clients loaded", "file", r.cfg.File, "roots", len(names))
	if before == nil {
		return nil, nil
	}
	return news, nil
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
func parseRoots(data []byte) (*x509.CertPool, []string, error) {
	pool, names := x509.NewCertPool(), []string(nil)
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
			return nil, nil, fmt.Errorf("certificate %d: %w", len(names)+1, err)
		}
		pool.AddCert(certificate)
		names = append(names, fmt.Sprintf("%s (serial %x)", certificate.Subject, certificate.SerialNumber))
	}
	switch {
	case bytes.Contains(data, []byte("-----BEGIN")):
		return nil, nil, fmt.Errorf("what follows certificate %d is cut off or malformed", len(names))
	case len(names) == 0:
		return nil, nil, errors.New("there is no certificate in it")
	}
	return pool, names, nil
}
