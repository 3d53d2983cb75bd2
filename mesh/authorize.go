package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"sluice/identity"
	"sluice/intentions"
)

// DefaultMaxAge is how old a policy may be when AuthorizerConfig does not say.
const DefaultMaxAge = 15 * time.Minute

// AnyDatacenter, in AuthorizerConfig.Datacenters, accepts sources of every
// datacenter of the own trust domain.
const AnyDatacenter = "*"

// AuthorizerConfig is what an Authorizer decides by.
type AuthorizerConfig struct {
	// Service is the destination, as intentions name it.
	Service string
	// Policy supplies the intentions of Service as destination. Without one,
	// only Fallback decides.
	Policy PolicySource
	// Fallback is asked only while no policy has ever arrived. It may be nil.
	Fallback Verdicts
	// MaxAge is how long ago a policy may have been confirmed at most; an older
	// one is no verdict, and no verdict is a deny. 0 is DefaultMaxAge, below 0
	// is without bound.
	MaxAge time.Duration
	// Datacenters are those whose sources are accepted; nil is the own
	// datacenter alone, as the listener's identity names it.
	Datacenters []string
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// Authorizer gives the verdict on (source identity, destination service). It is
// safe for concurrent use.
type Authorizer struct {
	cfg AuthorizerConfig
	// arrived says that a policy has been seen: from then on Fallback has no say.
	arrived atomic.Bool
}

// NewAuthorizer returns an Authorizer for cfg.
func NewAuthorizer(cfg AuthorizerConfig) *Authorizer {
	if cfg.MaxAge == 0 {
		cfg.MaxAge = DefaultMaxAge
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Authorizer{cfg: cfg}
}

// errNoVerdict means that nobody could say yes, which is a no.
var errNoVerdict = errors.New("no verdict")

// Authorize returns the decision on a connection from source. A caller must
// refuse the connection if there is an error or if the decision is not Allowed.
// It judges the name and, where Datacenters is set, the datacenter; the trust
// domain is the chain check's concern and the listener's.
func (a *Authorizer) Authorize(ctx context.Context, source identity.ID) (intentions.Decision, error) {
	none := intentions.Decision{Source: source.Service(), Destination: a.cfg.Service}
	if source.IsZero() {
		return none, errors.New("authorize: source names nobody")
	}
	if a.cfg.Datacenters != nil && !a.datacenterAccepted(source.Datacenter(), "") {
		return none, fmt.Errorf("authorize %s: sources of datacenter %q are not accepted here", source, source.Datacenter())
	}
	policy, ok := a.policy()
	switch {
	case ok && a.stale(policy):
		return none, fmt.Errorf("authorize %s: %w: intentions last confirmed at %s, more than %s ago; check the Consul agent",
			source, errNoVerdict, policy.Confirmed.UTC().Format(time.RFC3339), a.cfg.MaxAge)
	case ok:
		return policy.Set.Decide(source.Service(), a.cfg.Service), nil
	case a.arrived.Load():
		return none, fmt.Errorf("authorize %s: %w: the intentions have been withdrawn", source, errNoVerdict)
	case a.cfg.Fallback == nil:
		return none, fmt.Errorf("authorize %s: %w: intentions have not arrived yet", source, errNoVerdict)
	}
	decision, err := a.cfg.Fallback.Authorize(ctx, source, a.cfg.Service)
	if err != nil {
		return none, fmt.Errorf("authorize %s: %w: %w", source, errNoVerdict, err)
	}
	if err := ctx.Err(); err != nil {
		return none, fmt.Errorf("authorize %s: %w: %w", source, errNoVerdict, err)
	}
	return decision, nil
}

// Service returns the destination that the Authorizer judges for.
func (a *Authorizer) Service() string { return a.cfg.Service }

// admit is Authorize for a peer of the process whose identity is own: it also
// compares trust domain and datacenter with that identity.
func (a *Authorizer) admit(ctx context.Context, source, own identity.ID) (intentions.Decision, error) {
	none := intentions.Decision{Source: source.Service(), Destination: a.cfg.Service}
	if own.Service() != a.cfg.Service {
		return none, fmt.Errorf("authorize %s: %w: own identity is %s, but intentions are those of %q", source, ErrNotReady, own, a.cfg.Service)
	}
	if source.TrustDomain() != own.TrustDomain() {
		return none, fmt.Errorf("authorize %s: trust domain is not %q", source, own.TrustDomain())
	}
	if !a.datacenterAccepted(source.Datacenter(), own.Datacenter()) {
		return none, fmt.Errorf("authorize %s: sources of datacenter %q are not accepted here", source, source.Datacenter())
	}
	return a.Authorize(ctx, source)
}

// policy returns the newest policy, however old its confirmation is. Live
// connections are judged by it without regard to age: losing Consul must not cut
// what was allowed.
func (a *Authorizer) policy() (Policy, bool) {
	if a.cfg.Policy == nil {
		return Policy{}, false
	}
	policy, ok := a.cfg.Policy.Policy()
	if ok && !a.arrived.Load() {
		a.arrived.Store(true)
	}
	return policy, ok
}

func (a *Authorizer) stale(policy Policy) bool {
	return a.cfg.MaxAge > 0 && a.cfg.Now().Sub(policy.Confirmed) > a.cfg.MaxAge
}

func (a *Authorizer) datacenterAccepted(datacenter, own string) bool {
	if a.cfg.Datacenters == nil {
		return datacenter == own
	}
	return slices.Contains(a.cfg.Datacenters, datacenter) || slices.Contains(a.cfg.Datacenters, AnyDatacenter)
}

func (a *Authorizer) changed() <-chan struct{} {
	if a.cfg.Policy == nil {
		return nil
	}
	return a.cfg.Policy.Changed()
}
