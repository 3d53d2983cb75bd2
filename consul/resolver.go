package consul

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/hashicorp/consul/agent/connect"
	"github.com/hashicorp/consul/api"
	sdk "github.com/hashicorp/consul/connect"
	"golang.org/x/sync/errgroup"

	"sluice/consul/answers"
	"sluice/mesh"
)

// Resolver follows the passing instances of a fixed list of services. It
// implements mesh.Resolver, and per service connect.Resolver (see Connect).
//
// When the agent or the servers are away, the last known instances stay.
type Resolver struct {
	roots    *Watch[rootFacts]
	services map[string]*seeker
}

// Resolver returns a resolver of services in the agent's own datacenter. It does
// nothing until Run.
func (c *Client) Resolver(services ...string) *Resolver { return c.ResolverIn(nil, services...) }

// ResolverIn returns a resolver of services in the agent's own datacenter and in
// others: it names the instances of all of them, the own one's first and then in the
// order of others. Which of them serves is for the caller to choose; a datacenter that
// cannot be reached keeps its last known instances. It does nothing until Run.
func (c *Client) ResolverIn(others []string, services ...string) *Resolver {
	r := &Resolver{roots: c.watchRoots(nil), services: make(map[string]*seeker, len(services))}
	for _, service := range services {
		r.services[service] = c.seek(service, others, r.roots)
	}
	return r
}

// Run follows until ctx ends, and then returns nil.
func (r *Resolver) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.roots.Run(ctx) })
	for _, seeker := range r.services {
		group.Go(func() error { return seeker.run(ctx) })
	}
	return group.Wait()
}

// Instances returns the passing instances of service, waiting for a first answer
// until ctx ends. The error is mesh.ErrNoInstance with the reason. The caller must
// not change the slice.
func (r *Resolver) Instances(ctx context.Context, service string) ([]mesh.Instance, error) {
	seeker, ok := r.services[service]
	if !ok {
		return nil, fmt.Errorf("resolve %s: %w: this resolver does not follow it", service, mesh.ErrNoInstance)
	}
	return seeker.await(ctx)
}

// Changed returns a channel that is closed when the instances of service become
// others than now; nil for a service that is not followed.
func (r *Resolver) Changed(service string) <-chan struct{} {
	if seeker, ok := r.services[service]; ok {
		return seeker.snap.Load().changed
	}
	return nil
}

// Connect returns the resolver of one service in the form that the Connect SDK
// takes: a random passing instance and the identity that must answer there.
func (r *Resolver) Connect(service string) sdk.Resolver {
	return connectResolver{resolver: r, service: service}
}

type connectResolver struct {
	resolver mesh.Resolver
	service  string
}

// Resolve implements connect.Resolver.
func (r connectResolver) Resolve(ctx context.Context) (string, connect.CertURI, error) {
	instances, err := r.resolver.Instances(ctx, r.service)
	if err != nil {
		return "", nil, err
	}
	chosen := instances[rand.IntN(len(instances))]
	uri, err := connect.ParseCertURIFromString(chosen.ID.String())
	if err != nil {
		return "", nil, fmt.Errorf("resolve %s: %w", r.service, err)
	}
	return chosen.Address, uri, nil
}

// watchInstances follows the passing instances of service in a datacenter; "" is the
// agent's own. The trust domain of their identities, the same in a whole federation,
// comes from roots, whose Run somebody else owns.
func (c *Client) watchInstances(service, datacenter string, roots *Watch[rootFacts], kick chan<- struct{}) *Watch[instanceList] {
	return c.watchMesh(service, datacenter, false, roots, kick)
}

// watchMesh is watchInstances that, with all, learns too who is in the mesh and does
// not pass.
func (c *Client) watchMesh(service, datacenter string, all bool, roots *Watch[rootFacts], kick chan<- struct{}) *Watch[instanceList] {
	name, wait := placeOf("instances of "+service, datacenter)
	var reader answers.Entries
	return newWatch(watchConfig[instanceList]{
		name: name, equal: instanceList.equal, kick: kick, logger: c.log, wait: wait,
		query: func(ctx context.Context, options *api.QueryOptions) (instanceList, *api.QueryMeta, error) {
			trustDomain, err := awaitTrustDomain(ctx, roots)
			if err != nil {
				return instanceList{}, nil, err
			}
			options.Datacenter = datacenter
			var entries []*answers.Entry
			_, meta, err := c.long.Health().Connect(service, "", !all, readEntries(options, &reader, &entries))
			if err != nil {
				return instanceList{}, nil, explain("find instances", serviceRule(service, "read"), err)
			}
			var list instanceList
			list.hidden = len(entries) == 0 && meta.ResultsFilteredByACLs
			if all {
				list.meshed = namesOf(entries)
				entries = passing(entries)
			}
			list.instances = instancesOf(entries, service, trustDomain)
			return list, meta, nil
		},
	})
}

func awaitTrustDomain(ctx context.Context, roots *Watch[rootFacts]) (string, error) {
	for {
		round := roots.round()
		state := roots.State()
		if state.Known {
			return state.Value.trustDomain, nil
		}
		if state.Err != nil {
			return "", fmt.Errorf("the trust domain is not known: %w", state.Err)
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-round:
		}
	}
}

// awaitInstances waits for the first answer. A refusal by ACLs ends the wait: it
// does not pass by itself.
func awaitInstances(ctx context.Context, service string, watch *Watch[instanceList]) ([]mesh.Instance, error) {
	for {
		round := watch.round()
		state := watch.State()
		switch {
		case state.Known:
			return judgeInstances(service, state)
		case errors.Is(state.Err, ErrForbidden):
			return nil, fmt.Errorf("resolve %s: %w: %w", service, mesh.ErrNoInstance, state.Err)
		}
		select {
		case <-ctx.Done():
			return nil, unanswered(ctx, service, state.Err)
		case <-round:
		}
	}
}

// unanswered says that ctx ended before the first answer, and why there is none.
func unanswered(ctx context.Context, service string, cause error) error {
	if cause == nil {
		cause = errors.New("no answer from Consul yet")
	}
	return fmt.Errorf("resolve %s: %w: %w: %w", service, mesh.ErrNoInstance, context.Cause(ctx), cause)
}

func judgeInstances(service string, state State[instanceList]) ([]mesh.Instance, error) {
	list := state.Value
	switch {
	case len(list.instances) > 0:
		return list.instances, nil
	case list.hidden:
		return nil, fmt.Errorf(`resolve %s: %w: %w: Consul hides every instance, because the token may not read their nodes (no node:read); add to its policy: node_prefix "" { policy = "read" }`,
			service, mesh.ErrNoInstance, ErrForbidden)
	case state.Err != nil:
		return nil, fmt.Errorf("resolve %s: %w when Consul last answered: %w", service, mesh.ErrNoInstance, state.Err)
	default:
		return nil, fmt.Errorf("resolve %s: %w", service, mesh.ErrNoInstance)
	}
}
