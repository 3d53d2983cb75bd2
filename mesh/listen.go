package mesh

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"
)

// ListenConfig is what a Listener serves by.
type ListenConfig struct {
	// Credentials is asked once per handshake. Required.
	Credentials CredentialSource
	// Authorizer judges every peer, and again on every change. Required.
	Authorizer *Authorizer
	// Table receives the live connections. Required.
	Table *Table
	// Logger receives refusals and cuts; nil is silent.
	Logger *slog.Logger
	// HandshakeTimeout bounds one handshake, authorization included; default 5 s.
	HandshakeTimeout time.Duration
	// MaxHandshakes bounds the handshakes in flight; default 512.
	MaxHandshakes int
	// DrainTimeout is how long Run waits for live connections once it stops,
	// before it cuts them; default 3 s, below 0 is not at all.
	DrainTimeout time.Duration
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// Listener hands out connections whose peers are verified and authorized.
type Listener struct {
	cfg ListenConfig
	net net.Listener
}

// Listen binds address. Nothing is accepted before Run.
func Listen(address string, cfg ListenConfig) (*Listener, error) {
	return nil, errors.ErrUnsupported
}

// NewListener is Listen on a socket that is already bound.
func NewListener(socket net.Listener, cfg ListenConfig) (*Listener, error) {
	return nil, errors.ErrUnsupported
}

// Run accepts, shakes hands and authorizes until ctx ends or Close is called.
func (l *Listener) Run(ctx context.Context) error { return errors.ErrUnsupported }

// Accept returns the next connection, always a *Conn.
func (l *Listener) Accept() (net.Conn, error) { return nil, errors.ErrUnsupported }

// Close stops accepting.
func (l *Listener) Close() error { return errors.ErrUnsupported }

// Addr returns the bound address.
func (l *Listener) Addr() net.Addr { return l.net.Addr() }
