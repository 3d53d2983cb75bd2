package consul

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"sluice/consul/answers"
	"sluice/mesh"
)

// mostDeparted bounds the services that are gone whose index is still known.
const mostDeparted = 1000

// ResolverAll follows every service that has a passing Connect instance with a
// tag of a given prefix, as services come and go. It implements mesh.Resolver.
type ResolverAll struct {
	client *Client
	prefix string
	// datacenter is where it looks; empty is the agent's own.
	datacenter string
	roots      *Watch[rootFacts]
	names      *Watch[[]string]
	// plain are the services with an instance outside the mesh that has the tag; nil if
	// such instances are not followed.
	plain *Watch[[]string]
	kick  chan struct{}
	snap  atomic.Pointer[servicesSnapshot]
}

// servicesSnapshot is what is known of all services at one moment.
type servicesSnapshot struct {
	services map[string][]mesh.Instance
	watches  map[string]*Watch[instanceList]
	// indexes are those of the answers by which services became what they are, or
	// were left out.
	indexes map[string]uint64
	// settled are services with an instance that has the tag, of which every change is
	// heard, and whose tags are many; settledPlain are those of which that is so of
	// instances outside the mesh. Sorted.
	settled, settledPlain []string
	// known says that the list of services has arrived.
	known          bool
	changed, round chan struct{}
}

// ResolverAll returns a resolver of every service with an instance that has a tag
// beginning with tagPrefix. It does nothing until Run.
func (c *Client) ResolverAll(tagPrefix string) *ResolverAll { return c.resolverAll(tagPrefix, "") }

func (c *Client) resolverAll(tagPrefix, datacenter string) *ResolverAll {
	r := &ResolverAll{client: c, prefix: tagPrefix, datacenter: datacenter, kick: make(chan struct{}, 1)}
	r.roots = c.watchRoots(nil)
	r.snap.Store(&servicesSnapshot{changed: make(chan struct{}), round: make(chan struct{})})
	r.names = r.list("services", "", func() []string { return r.snap.Load().settled })
	return r
}

// list follows the services that have an instance with the tag for which the filter
// holds; see lister.
func (r *ResolverAll) list(what, only string, settled func() []string) *Watch[[]string] {
	name, wait := placeOf(what, r.datacenter)
	l := &lister{client: r.client, datacenter: r.datacenter, only: only, settled: settled, reader: answers.Services{Prefix: r.prefix}}
	return newWatch(watchConfig[[]string]{
		name: name, wait: wait, equal: slices.Equal[[]string], kick: r.kick, logger: r.client.log, query: l.list,
	})
}

// ResolverAllWithPlain returns a resolver as ResolverAll does, which names beside
// the Connect instances those outside the mesh that have the tag themselves. Their
// ID is zero: nobody proves to be one, and only Services tells of them, never
// Instances. What is in the mesh is never among them, neither a Connect-native
// instance nor one that a sidecar proxy serves.
func (c *Client) ResolverAllWithPlain(tagPrefix string) *ResolverAll {
	r := c.ResolverAll(tagPrefix)
	r.plain = r.list("services outside the mesh", plainServices, func() []string { return r.snap.Load().settledPlain })
	return r
}

func hasPrefix(tags []string, prefix string) bool {
	return slices.ContainsFunc(tags, func(tag string) bool { return strings.HasPrefix(tag, prefix) })
}

// Services returns the passing instances by service, those in the mesh first; a
// service without one is not in it. The caller must not change the map.
func (r *ResolverAll) Services() map[string][]mesh.Instance { return r.snap.Load().services }

// Changed returns a channel that is closed when Services starts to return
// something else than now.
func (r *ResolverAll) Changed() <-chan struct{} { return r.snap.Load().changed }

// Index returns the Consul index at which Services started to say of a service what
// it says now; 0 if it never said anything. It is safe for concurrent use.
func (r *ResolverAll) Index(service string) uint64 { return r.snap.Load().indexes[service] }

// Err returns why the list of services cannot be confirmed now; nil if it can.
func (r *ResolverAll) Err() error {
	err := r.names.State().Err
	if err == nil && r.plain != nil {
		err = r.plain.State().Err
	}
	return err
}

// Instances returns the passing instances of service. The error is
// mesh.ErrNoInstance with the reason.
func (r *ResolverAll) Instances(ctx context.Context, service string) ([]mesh.Instance, error) {
	for {
		snap := r.snap.Load()
		if watch, ok := snap.watches[service]; ok {
			return awaitInstances(ctx, service, watch)
		}
		if snap.known {
			return nil, fmt.Errorf("resolve %s: %w with a tag %s*", service, mesh.ErrNoInstance, r.prefix)
		}
		select {
		case <-ctx.Done():
			return nil, unanswered(ctx, service, r.Err())
		case <-snap.round:
		}
	}
}

// Run follows until ctx ends, and then returns nil.
func (r *ResolverAll) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { _ = r.roots.Run(ctx) })
	group.Go(func() { _ = r.names.Run(ctx) })
	if r.plain != nil {
		group.Go(func() { _ = r.plain.Run(ctx) })
	}
	running := map[string]*followed{}
	for {
		if names, plain, known := r.listed(); known {
			r.reconcile(ctx, &group, running, names)
			r.reconcilePlain(ctx, &group, running, plain)
			r.publish(running)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.kick:
		}
	}
}

// listed returns the services to follow, and those of which instances outside the mesh
// are followed as well. known is false until both are.
func (r *ResolverAll) listed() (names, plain []string, known bool) {
	state := r.names.State()
	names, known = state.Value, state.Known
	if r.plain != nil {
		outside := r.plain.State()
		plain, known = outside.Value, known && outside.Known
	}
	return names, plain, known
}

// followed is what runs for one service.
type followed struct {
	watch *Watch[instanceList]
	// plain is nil where only the mesh is followed.
	plain           *Watch[instanceList]
	stop, stopPlain context.CancelFunc
	// told is what the snapshot was made of.
	told facts
	// inside and outside are what merged was made of.
	inside  instanceList
	outside []mesh.Instance
	merged  []mesh.Instance
}

// reconcile starts the watch of each new name and stops those of names that are gone.
func (r *ResolverAll) reconcile(ctx context.Context, group *sync.WaitGroup, running map[string]*followed, names []string) {
	for name, child := range running {
		if _, found := slices.BinarySearch(names, name); !found {
			child.stop()
			child.endPlain()
			delete(running, name)
		}
	}
	for _, name := range names {
		if running[name] != nil {
			continue
		}
		childContext, stop := context.WithCancel(ctx)
		child := &followed{watch: r.client.watchMesh(name, r.datacenter, r.plain != nil, r.roots, r.kick), stop: stop}
		running[name] = child
		group.Go(func() { _ = child.watch.Run(childContext) })
	}
}

// reconcilePlain does the same for instances outside the mesh. A service that has none
// needs no second watch, with a connection of its own.
func (r *ResolverAll) reconcilePlain(ctx context.Context, group *sync.WaitGroup, running map[string]*followed, plain []string) {
	for name, child := range running {
		_, wanted := slices.BinarySearch(plain, name)
		switch {
		case !wanted:
			child.endPlain()
		case child.plain == nil:
			var childContext context.Context
			childContext, child.stopPlain = context.WithCancel(ctx)
			watch := r.client.watchPlain(name, r.prefix, r.kick)
			child.plain = watch
			group.Go(func() { _ = watch.Run(childContext) })
		}
	}
}

func (f *followed) endPlain() {
	if f.plain != nil {
		f.stopPlain()
		f.plain = nil
	}
}

// instances returns what is known of the service. It is the same slice until
// something changes.
func (f *followed) instances() []mesh.Instance {
	state := f.watch.State()
	if f.plain == nil || !state.Known {
		// Who is in the mesh has to be known first: nobody is taken for plain meanwhile.
		return state.Value.instances
	}
	inside, outside := state.Value, f.plain.State().Value.instances
	if len(outside) == 0 {
		return inside.instances
	}
	if !sameSlice(f.inside.instances, inside.instances) || !maps.Equal(f.inside.meshed, inside.meshed) || !sameSlice(f.outside, outside) {
		f.inside, f.outside = inside, outside
		f.merged = mergeInstances(inside, outside)
	}
	return f.merged
}

// facts are what a snapshot is made of, for one service.
type facts struct {
	instances []mesh.Instance
	heard     bool
}

// facts returns what is known now.
func (f *followed) facts() facts { return facts{f.instances(), f.heard()} }

// heard reports whether what is known of the service is the newest.
func (f *followed) heard() bool {
	return f.watch.State().Err == nil && (f.plain == nil || f.plain.State().Err == nil)
}

// index is that of the newest change of what is known of the service.
func (f *followed) index() uint64 {
	index := f.watch.State().Index
	if f.plain != nil {
		index = max(index, f.plain.State().Index)
	}
	return index
}

// told reports whether a snapshot tells already what is known: of three rounds that a
// change ends, two have no news.
func (s *servicesSnapshot) told(running map[string]*followed) bool {
	if !s.known || len(s.watches) != len(running) {
		return false
	}
	for name, child := range running {
		now := child.facts()
		if s.watches[name] != child.watch || now.heard != child.told.heard || !sameSlice(now.instances, child.told.instances) {
			return false
		}
	}
	return true
}

func (r *ResolverAll) publish(running map[string]*followed) {
	old := r.snap.Load()
	if old.told(running) {
		return
	}
	next := &servicesSnapshot{
		services: map[string][]mesh.Instance{}, watches: map[string]*Watch[instanceList]{},
		indexes: map[string]uint64{}, known: true, changed: old.changed, round: make(chan struct{}),
	}
	if len(old.indexes) < 2*len(running)+mostDeparted {
		maps.Copy(next.indexes, old.indexes)
	}
	changed := false
	var settled, plain []weighed
	for name, child := range running {
		next.watches[name] = child.watch
		child.told = child.facts()
		tagged := r.tagged(child.told.instances)
		if len(tagged) > 0 {
			next.services[name] = tagged
			if child.told.heard {
				settled = append(settled, weighed{name, sizeOfTags(tagged)})
				if child.plain != nil {
					// Without a tagged instance it has no size, and stays in the list.
					plain = append(plain, weighed{name, sizeOfTags(child.plain.State().Value.instances)})
				}
			}
		}
		if slices.EqualFunc(old.services[name], tagged, sameInstance) {
			next.indexes[name] = old.indexes[name]
			continue
		}
		next.indexes[name], changed = child.index(), true
	}
	for name := range old.services {
		if running[name] == nil {
			next.indexes[name], changed = r.names.State().Index, true
		}
	}
	next.settled, next.settledPlain = largest(settled), largest(plain)
	if changed {
		next.changed = make(chan struct{})
	}
	r.snap.Store(next)
	close(old.round)
	if changed {
		close(old.changed)
	}
}

// tagged returns all instances if one of them has the tag: the tag says where the
// service is mounted, not which instance may serve.
func (r *ResolverAll) tagged(instances []mesh.Instance) []mesh.Instance {
	if slices.ContainsFunc(instances, func(i mesh.Instance) bool { return hasPrefix(i.Tags, r.prefix) }) {
		return instances
	}
	return nil
}
