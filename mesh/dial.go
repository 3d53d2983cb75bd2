package mesh

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"sluice/intentions"
)

// DefaultDialTimeout is how long one Dial may take when DialerConfig does not
// say.
const DefaultDialTimeout = 5 * time.Second

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
	// Timeout bounds one Dial: resolution, TCP, handshake and confirmation, over
	// all instances that are tried; default 5 s.
	Timeout time.Duration
	// Prefer puts instances into the order in which they are tried; nil is
	// random order. It may drop some.
	Prefer func([]Instance) []Instance
	// DialContext makes the TCP connection; nil is a net.Dialer that notices a
	// vanished peer of an idle connection after 25 s.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Logger receives cuts; nil is silent.
	Logger *slog.Logger
	// Now tells the time by which certificates are judged; nil is time.Now.
	Now func() time.Time
}

// Dialer makes outbound connections. It is safe for concurrent use.
type Dialer struct {
	cfg DialerConfig

	mu sync.Mutex
	// failed holds, by address, until when an instance that failed comes last.
	failed map[string]time.Time
	// dials holds, by service, what came of the dials.
	dials map[string]DialCounts

	verified verified
}

// NewDialer returns a Dialer for cfg. What cfg lacks shows as an error of each
// dial.
func NewDialer(cfg DialerConfig) *Dialer {
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultDialTimeout
	}
	if cfg.DialContext == nil {
		cfg.DialContext = (&net.Dialer{KeepAliveConfig: keepAlive()}).DialContext
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Table == nil {
		cfg.Table = NewTable(cfg.Now)
	}
	return &Dialer{cfg: cfg, failed: make(map[string]time.Time), dials: make(map[string]DialCounts)}
}

// Run judges the live outbound connections again on each change of the policy,
// until ctx ends; then it returns nil and leaves the connections to their
// owners.
func (d *Dialer) Run(ctx context.Context) error {
	for {
		changed := d.changed()
		if policy, ok := d.policy(); ok {
			d.cfg.Table.enforce(d, policy.Set, d.cfg.Logger)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// DialInstance connects to one instance: the identity that answers must be
// instance.ID, in every part. It returns once the instance has accepted us.
// Errors are *DeniedError, *WrongIdentityError, ErrNotReady, ErrTimeout, or
// whatever the network said.
//
// An instance that is not of this mesh's make does not say that it accepts us.
// Its refusal then is the error of the first Read, a *DeniedError too.
func (d *Dialer) DialInstance(ctx context.Context, instance Instance) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	own, err := d.credentials()
	if err == nil {
		err = d.refused(own, instance.ID.Service())
	}
	if err == nil && instance.ID.IsZero() {
		err = errors.New("no identity to expect")
	}
	var conn *Conn
	if err == nil {
		conn, err = d.connect(ctx, own, instance)
	}
	d.note(instance, err)
	if err != nil {
		return nil, fmt.Errorf("mesh: dial %s at %s: %w", instance.ID.Service(), instance.Address, withTimeout(err))
	}
	return conn, nil
}

// probe is DialInstance for an instance that is not expected to accept: a
// failure is neither counted nor held against it.
func (d *Dialer) probe(ctx context.Context, instance Instance) (*Conn, error) {
	own, err := d.credentials()
	if err == nil {
		err = d.refused(own, instance.ID.Service())
	}
	if err != nil {
		return nil, err
	}
	conn, err := d.connect(ctx, own, instance)
	if err == nil {
		d.note(instance, nil)
	}
	return conn, withTimeout(err)
}

// note counts the result of one dial and remembers an instance that failed.
func (d *Dialer) note(instance Instance, err error) {
	service := instance.ID.Service()
	switch {
	case err == nil:
		d.count(service, dialOK)
		d.forgive(instance.Address)
	case errors.Is(err, ErrDenied):
		d.count(service, dialDenied)
	case errors.Is(err, ErrNotReady), errors.Is(err, context.Canceled):
		// Nothing that the instance has done.
		d.count(service, dialFailed)
	default:
		d.count(service, dialFailed)
		d.exclude(instance.Address)
	}
}

// connect makes one connection; a server that insists on another application
// protocol gets a second chance without any.
func (d *Dialer) connect(ctx context.Context, own Credentials, instance Instance) (*Conn, error) {
	conn, err := d.attempt(ctx, own, instance, []string{ALPN})
	if err != nil && isRemoteAlert(err, alertNoApplicationProtocol) {
		return d.attempt(ctx, own, instance, nil)
	}
	return conn, err
}

func (d *Dialer) attempt(ctx context.Context, own Credentials, instance Instance, protocols []string) (conn *Conn, err error) {
	raw, err := d.cfg.DialContext(ctx, "tcp", instance.Address)
	if err != nil {
		return nil, err
	}
	// HandshakeContext watches ctx for its own time only.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			if conn != nil {
				conn.abort("dial failed")
				conn = nil
			}
			reset(raw)
		}
	}()
	session := tls.Client(raw, d.config(own, instance, protocols))
	if err := session.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state := session.ConnectionState()
	confirmed := state.NegotiatedProtocol == ALPN
	if confirmed {
		if err := d.confirmed(ctx, session, own, instance); err != nil {
			return nil, err
		}
	}
	conn = &Conn{
		tls: session, raw: raw, table: d.cfg.Table, owner: d,
		edge: Edge{Source: own.ID, Destination: instance.ID},
		peer: state.PeerCertificates[0], local: own.Certificate.Leaf,
		unconfirmed: !confirmed,
	}
	if !conn.enter(d.policy) {
		return conn, &DeniedError{Decision: conn.Decision(), By: BySource}
	}
	return conn, nil
}

// confirmed asks the server for its word on us and says what a refusal means.
func (d *Dialer) confirmed(ctx context.Context, session *tls.Conn, own Credentials, instance Instance) error {
	allowed, err := confirm(session)
	switch {
	case err == nil && allowed:
		return nil
	case err == nil, isRemoteAlert(err, alertBadCertificate):
		return d.deniedByDestination(own, instance.ID.Service())
	case ctx.Err() != nil:
		return ctx.Err()
	case d.refused(own, instance.ID.Service()) != nil:
		// The change that cut us has reached us, too.
		return d.refused(own, instance.ID.Service())
	default:
		return fmt.Errorf("the destination ended the handshake: %w", err)
	}
}

// deniedByDestination is a refusal that came over the wire. Our own snapshot may
// already know the intention behind it; else only the edge is known.
func (d *Dialer) deniedByDestination(own Credentials, service string) error {
	decision := intentions.Decision{Source: own.ID.Service(), Destination: service}
	if policy, ok := d.policy(); ok {
		if known := policy.Set.Decide(own.ID.Service(), service); !known.Allowed {
			decision = known
		}
	}
	return &DeniedError{Decision: decision, By: ByDestination}
}

// config returns the TLS configuration of one outbound connection.
func (d *Dialer) config(own Credentials, instance Instance, protocols []string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		NextProtos:             protocols,
		// Whatever authorities the server lists: we have one certificate, and it
		// is for the server to refuse it.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return own.Certificate, nil
		},
		// crypto/tls checks host names, which a mesh does not have.
		// VerifyConnection checks the chain and the identity instead.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if state.DidResume {
				return errors.New("session resumption is not accepted")
			}
			if err := d.verified.check(state.PeerCertificates, own.Roots, d.cfg.Now()); err != nil {
				return err
			}
			got, err := leafIdentity(state.PeerCertificates)
			if err != nil {
				return err
			}
			if got != instance.ID {
				return &WrongIdentityError{Want: instance.ID, Got: got}
			}
			return nil
		},
	}
}

func (d *Dialer) credentials() (Credentials, error) {
	if d.cfg.Credentials == nil {
		return Credentials{}, fmt.Errorf("%w: no credential source", ErrNotReady)
	}
	return current(d.cfg.Credentials, d.cfg.Now())
}

// refused returns a *DeniedError if our own snapshot says no. Its age does not
// matter: a yes is for the destination to say.
func (d *Dialer) refused(own Credentials, service string) error {
	policy, ok := d.policy()
	if !ok {
		return nil
	}
	if decision := policy.Set.Decide(own.ID.Service(), service); !decision.Allowed {
		return &DeniedError{Decision: decision, By: BySource}
	}
	return nil
}

func (d *Dialer) policy() (Policy, bool) {
	if d.cfg.Policy == nil {
		return Policy{}, false
	}
	return d.cfg.Policy.Policy()
}

func (d *Dialer) changed() <-chan struct{} {
	if d.cfg.Policy == nil {
		return nil
	}
	return d.cfg.Policy.Changed()
}
