package consul

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/mesh"
)

const (
	// driftTolerance is how long the SDK may serve other material than Consul
	// answers before it is replaced: its own watch may simply be a little later.
	driftTolerance = time.Second
	// driftPoll is how often that is looked at while it is so.
	driftPoll = 20 * time.Millisecond
	// renewPause is the least time between two replacements that only a recovery
	// asks for: an outage that comes and goes must not start a service each time.
	renewPause = 10 * time.Second
	// renewTimeout bounds how long a fresh SDK service may take to serve what
	// Consul answers.
	renewTimeout = 5 * time.Second
)

// Identity supplies a service's credentials. It implements mesh.CredentialSource.
//
// The leaf, its key and the roots are the Connect SDK's (connect.Service): they
// are read from its TLS configuration for each handshake. What the SDK does not
// do is watched over here. Its two watches wait 5 s times the square of their
// failures, up to three minutes, so this Identity follows the same two endpoints
// by its own watches; when one of them comes back after a failure, and whenever the
// SDK serves other material than they see, the SDK's service is replaced by a fresh
// one. The SDK's Ready ignores intermediates and time, so Ready here checks the
// chain itself. And no SDK service is made before the agent has answered.
//
// While the agent is away the last credentials stay in use until they expire.
type Identity struct {
	client  *Client
	service string
	leaf    *Watch[leafFacts]
	roots   *Watch[rootFacts]
	kick    chan struct{}
	current atomic.Pointer[sdkService]
	built   atomic.Pointer[builtCredentials]
	serving atomic.Pointer[servingState]
}

// servingState is what the last look at the SDK found.
type servingState struct {
	leaf    leafFacts
	roots   rootFacts
	from    mesh.Provenance
	changed chan struct{}
}

// builtCredentials remembers the credentials made of one pair of SDK values, so
// that a handshake does not parse what the last one parsed.
type builtCredentials struct {
	leaf        *tls.Certificate
	credentials mesh.Credentials
}

// Identity returns the identity of service as this client's token may have it. It
// does nothing until Run.
func (c *Client) Identity(service string) *Identity {
	kick := make(chan struct{}, 1)
	i := &Identity{
		client: c, service: service, kick: kick,
		leaf: c.watchLeaf(service, kick), roots: c.watchRoots(kick),
	}
	i.serving.Store(&servingState{changed: make(chan struct{})})
	return i
}

// Run follows leaf and roots until ctx ends, and then returns nil. The last
// credentials remain readable.
func (i *Identity) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return i.leaf.Run(ctx) })
	group.Go(func() error { return i.roots.Run(ctx) })
	group.Go(func() error { return i.supervise(ctx) })
	return group.Wait()
}

// Credentials returns what to present and whom to believe now. It never waits.
// The error is mesh.ErrNotReady with the reason.
func (i *Identity) Credentials() (mesh.Credentials, error) {
	sdk := i.current.Load()
	if sdk == nil {
		return mesh.Credentials{}, i.notReady(nil)
	}
	leaf, roots, err := sdk.material()
	if err != nil {
		return mesh.Credentials{}, i.notReady(err)
	}
	built := i.built.Load()
	if built == nil || built.leaf != leaf || built.credentials.Roots != roots {
		id, err := judgeLeaf(leaf.Leaf, i.service, i.client.cfg.Datacenter)
		if err != nil {
			return mesh.Credentials{}, i.notReady(err)
		}
		built = &builtCredentials{leaf: leaf, credentials: mesh.Credentials{Certificate: leaf, Roots: roots, ID: id}}
		i.built.Store(built)
	}
	if now := i.client.now(); now.After(leaf.Leaf.NotAfter) {
		return mesh.Credentials{}, i.notReady(fmt.Errorf("the leaf expired at %s", leaf.Leaf.NotAfter.Format(time.RFC3339)))
	}
	return built.credentials, nil
}

// Ready returns nil if the credentials would convince a peer now: the chain,
// with its intermediates, ends in a trusted root, everything is valid at this
// time, and the trust domain is the one that Consul names.
func (i *Identity) Ready() error {
	credentials, err := i.Credentials()
	if err != nil {
		return err
	}
	if err := verifyChain(credentials.Certificate, credentials.Roots, i.client.now()); err != nil {
		return i.notReady(err)
	}
	if want := i.roots.State().Value.trustDomain; credentials.ID.TrustDomain() != want {
		return i.notReady(fmt.Errorf("the leaf is of trust domain %s, Consul's is %s", credentials.ID.TrustDomain(), want))
	}
	return nil
}

// Wait returns when Ready does, or when ctx ends, with the reason why it was not
// ready until then.
func (i *Identity) Wait(ctx context.Context) error {
	for {
		changed := i.Changed()
		err := i.Ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for identity: %w: %w", context.Cause(ctx), err)
		case <-changed:
		case <-time.After(driftTolerance):
			// A leaf can become valid by the clock alone.
		}
	}
}

// Changed returns a channel that is closed when Credentials starts to return
// another leaf or other roots than now.
func (i *Identity) Changed() <-chan struct{} { return i.serving.Load().changed }

// Provenance says which answers of Consul the credentials are from: the zero value
// before the first. It is safe for concurrent use.
func (i *Identity) Provenance() mesh.Provenance { return i.serving.Load().from }

func (i *Identity) notReady(cause error) error {
	if cause == nil {
		cause = errors.Join(i.leaf.State().Err, i.roots.State().Err)
	}
	if cause == nil {
		cause = errors.New("the agent has not answered yet")
	}
	return fmt.Errorf("identity of %s: %w: %w", i.service, mesh.ErrNotReady, cause)
}

// supervise keeps the SDK serving what the sentinels see. It is the only writer
// of current and serving.
func (i *Identity) supervise(ctx context.Context) error {
	defer func() {
		if sdk := i.current.Load(); sdk != nil {
			sdk.close()
		}
	}()
	var watched supervision
	for {
		again := i.look(ctx, &watched)
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-i.kick:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// supervision is what one look at the SDK leaves for the next.
type supervision struct {
	recoveries uint64
	replaced   time.Time
	driftSince time.Time
	failures   int
}

// look compares the SDK with the sentinels, replaces it if need be, and returns
// when to look again.
func (i *Identity) look(ctx context.Context, s *supervision) time.Duration {
	leaf, roots := i.leaf.State(), i.roots.State()
	if !leaf.Known || !roots.Known {
		return watchWait
	}
	recoveries := leaf.Recoveries + roots.Recoveries
	sdk := i.current.Load()
	switch {
	case sdk == nil || recoveries != s.recoveries && time.Since(s.replaced) > renewPause:
	case sdk.serves(leaf.Value, roots.Value):
		s.driftSince = time.Time{}
		i.publish(leaf, roots)
		return watchWait
	case s.driftSince.IsZero():
		s.driftSince = time.Now()
		return driftPoll
	case time.Since(s.driftSince) < driftTolerance:
		return driftPoll
	}
	if err := i.replace(ctx); err != nil {
		s.failures++
		i.client.log.Warn("identity: the Connect SDK does not serve what Consul answers, trying again",
			"service", i.service, "err", err)
		return retryIn(s.failures)
	}
	*s = supervision{recoveries: recoveries, replaced: time.Now()}
	return driftPoll
}

// replace makes a fresh SDK service and swaps it in once it serves what the
// sentinels see.
func (i *Identity) replace(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	fresh, err := i.client.newSDKService(i.service)
	if err != nil {
		return err
	}
	for !fresh.serves(i.leaf.State().Value, i.roots.State().Value) {
		if !sleep(ctx, driftPoll) {
			fresh.close()
			return fmt.Errorf("no match within %s", renewTimeout)
		}
	}
	if old := i.current.Swap(fresh); old != nil {
		old.close()
	}
	return nil
}

// publish tells the readers if what is served is new.
func (i *Identity) publish(leaf State[leafFacts], roots State[rootFacts]) {
	old := i.serving.Load()
	sameLeaf, sameRoots := old.leaf.equal(leaf.Value), old.roots.equal(roots.Value)
	if sameLeaf && sameRoots {
		return
	}
	next := &servingState{leaf: leaf.Value, roots: roots.Value, from: old.from, changed: make(chan struct{})}
	if !sameLeaf {
		next.from.LeafIndex = leaf.Index
	}
	if !sameRoots {
		next.from.RootsIndex, next.from.RootIDs = roots.Index, roots.Value.ids
	}
	i.serving.Store(next)
	close(old.changed)
	certificate := leaf.Value.certificate
	i.client.log.Info("identity renewed", "service", i.service,
		"serial", certificate.SerialNumber.Text(16), "not_after", certificate.NotAfter)
}
