package mesh

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"time"
)

// UpstreamConfig is what an Upstream carries where.
type UpstreamConfig struct {
	// Service is where accepted connections go.
	Service string
	// Address is the local "host:port"; the host must be a loopback address.
	Address string
	// Dialer makes the connections. Required.
	Dialer *Dialer
	// Hold is how long an accepted connection waits while there is no instance;
	// default 10 s, below 0 is not at all.
	Hold time.Duration
	// IdleTimeout cuts a connection on which no byte has moved for that long;
	// 0 is never.
	IdleTimeout time.Duration
	// DrainTimeout is how long Run waits for live connections once it stops;
	// default 3 s, below 0 is not at all.
	DrainTimeout time.Duration
	// Prefer puts instances into the order in which they are tried; nil is the
	// Dialer's order.
	Prefer func([]Instance) []Instance
	// Logger receives failures; nil is silent.
	Logger *slog.Logger
}

// Upstream is a local plaintext listener whose connections leave over the mesh.
type Upstream struct {
	cfg UpstreamConfig
	net net.Listener
}

// ListenUpstream binds the local address.
func ListenUpstream(cfg UpstreamConfig) (*Upstream, error) { return nil, errors.ErrUnsupported }

// Addr returns the bound local address.
func (u *Upstream) Addr() net.Addr { return u.net.Addr() }

// Run carries connections until ctx ends.
func (u *Upstream) Run(ctx context.Context) error { return errors.ErrUnsupported }

// Err returns nil, or why the newest dial failed.
func (u *Upstream) Err() error { return errors.ErrUnsupported }

// Changed returns a channel that is closed when Err changes.
func (u *Upstream) Changed() <-chan struct{} { return nil }

// Last describes the newest established connection and its peer's leaf.
func (u *Upstream) Last() (ConnectionInfo, *x509.Certificate, bool) {
	return ConnectionInfo{}, nil, false
}
