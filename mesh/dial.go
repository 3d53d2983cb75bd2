package mesh

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"
)

// DialerConfig is what a Dialer dials by.
type DialerConfig struct {
	// Credentials is asked once per connection. Required.
	Credentials CredentialSource
	// Resolver names the instances. Required for Dial, not for DialInstance.
	Resolver Resolver
	// Policy supplies the own intentions as source; may be nil. A deny known
	// here refuses before anything is dialled, cuts live outbound connections
	// when it arrives, and names the intention in errors.
	Policy PolicySource
	// Table receives the live connections. Required.
	Table *Table
	// Timeout bounds one Dial: resolution, TCP, handshake and confirmation;
	// default 5 s.
	Timeout time.Duration
	// Prefer puts instances into the order in which they are tried; nil is
	// random order.
	Prefer func([]Instance) []Instance
	// DialContext makes the TCP connection; nil is a net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Logger receives cuts; nil is silent.
	Logger *slog.Logger
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// Dialer makes outbound connections. It is safe for concurrent use.
type Dialer struct {
	cfg DialerConfig
}

// NewDialer returns a Dialer for cfg.
func NewDialer(cfg DialerConfig) *Dialer { return &Dialer{cfg: cfg} }

// Run judges the live outbound connections again on each change of the policy,
// until ctx ends.
func (d *Dialer) Run(ctx context.Context) error { return errors.ErrUnsupported }

// Dial connects to an instance of service.
func (d *Dialer) Dial(ctx context.Context, service string) (*Conn, error) {
	return nil, errors.ErrUnsupported
}

// DialInstance connects to one instance.
func (d *Dialer) DialInstance(ctx context.Context, instance Instance) (*Conn, error) {
	return nil, errors.ErrUnsupported
}
