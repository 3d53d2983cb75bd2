package mesh

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"time"

	"sluice/identity"
	"sluice/intentions"
)

// Credentials are what a process presents and whom it believes, at one moment.
// A value is immutable: a renewal or a rotation is a new value.
type Credentials struct {
	// Certificate is the leaf with its key and every intermediate up to, but
	// without, the root. Certificate.Leaf is set.
	Certificate *tls.Certificate
	// Roots are the certificates that a peer's chain must end in.
	Roots *x509.CertPool
	// ID is the identity in the leaf.
	ID identity.ID
}

// CredentialSource supplies the newest credentials. It is asked once per
// handshake and must not block. An error means that there are none yet: nothing
// is accepted and nothing is dialled (ErrNotReady).
type CredentialSource interface {
	Credentials() (Credentials, error)
}

// Provenance says which of Consul's answers credentials are from, for logs and
// reports.
type Provenance struct {
	// LeafIndex and RootsIndex are the Consul indexes at which the leaf and the roots
	// became what they are; 0 is not known.
	LeafIndex, RootsIndex uint64
	// RootIDs are Consul's names of the trusted roots, sorted.
	RootIDs []string
}

// Policy is what is known about the intentions of one service.
type Policy struct {
	// Set holds the rules and the default.
	Set intentions.Set
	// Index is the Consul index of the rules, for logs and reports.
	Index uint64
	// Confirmed is when Consul last said that these are the rules.
	Confirmed time.Time
}

// PolicySource supplies the newest policy for one service, as destination or as
// source. It must not block.
type PolicySource interface {
	// Policy returns the newest policy; false means that none has arrived yet.
	Policy() (Policy, bool)
	// Changed returns a channel that is closed when Policy starts to return a
	// different set of rules than it does now.
	Changed() <-chan struct{}
}

// Verdicts is the slow path to a verdict: the Consul agent's authorize endpoint,
// asked only while no policy has arrived.
type Verdicts interface {
	// Authorize asks for a verdict on a connection from source to destination.
	Authorize(ctx context.Context, source identity.ID, destination string) (intentions.Decision, error)
}

// Instance is one place where a service can be reached, and who must answer
// there.
type Instance struct {
	// ServiceID is the registration's ID, unique on its node.
	ServiceID string `json:"service_id"`
	Node      string `json:"node"`
	// Address is "host:port" of the mTLS listener.
	Address string `json:"address"`
	// ID is the identity that must answer, trust domain and datacenter included.
	ID   identity.ID       `json:"id"`
	Tags []string          `json:"tags,omitempty"`
	Meta map[string]string `json:"meta,omitempty"`
}

// Resolver names the healthy instances of a service.
type Resolver interface {
	// Instances returns the healthy instances of service, last known good when
	// Consul cannot be asked. It waits for a first answer until ctx ends. No
	// instance is ErrNoInstance, with Consul's reason where there is one.
	Instances(ctx context.Context, service string) ([]Instance, error)
}
