package consul

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/mesh"
)

// ResolverFederated follows the services of several datacenters as ResolverAll does
// those of one, and names the instances of all of them together. It implements
// mesh.Resolver. A datacenter that cannot be asked keeps its last known instances, for
// as long as that lasts; Datacenters says that they are old.
type ResolverFederated struct {
	own    *ResolverAll
	places []*ResolverAll // the own one first
	snap   atomic.Pointer[federatedSnapshot]
}

type federatedSnapshot struct {
	parts    []map[string][]mesh.Instance
	services map[string][]mesh.Instance
	// indexes are those at which services became what they are, or were left out, each
	// of the datacenter that changed last.
	indexes map[string]uint64
	changed chan struct{}
}

// ResolverFederated returns a resolver of what own follows and of the same in other
// datacenters. It runs own, too, and does nothing until Run.
func (c *Client) ResolverFederated(own *ResolverAll, others []string) *ResolverFederated {
	r := &ResolverFederated{own: own, places: []*ResolverAll{own}}
	for _, datacenter := range others {
		r.places = append(r.places, c.resolverAll(own.prefix, datacenter))
	}
	r.snap.Store(&federatedSnapshot{parts: make([]map[string][]mesh.Instance, len(r.places)), changed: make(chan struct{})})
	return r
}

// Services returns the passing instances by service, those of the own datacenter
// first. The caller must not change the map.
func (r *ResolverFederated) Services() map[string][]mesh.Instance { return r.snap.Load().services }

// Changed returns a channel that is closed when Services starts to return something
// else than now.
func (r *ResolverFederated) Changed() <-chan struct{} { return r.snap.Load().changed }

// Index returns the Consul index at which Services started to say of a service what
// it says now, in the datacenter that has changed it; 0 is not known. It is safe for
// concurrent use.
func (r *ResolverFederated) Index(service string) uint64 { return r.snap.Load().indexes[service] }

// Instances returns the passing instances of service in the own datacenter. The error
// is mesh.ErrNoInstance with the reason.
func (r *ResolverFederated) Instances(ctx context.Context, service string) ([]mesh.Instance, error) {
	return r.own.Instances(ctx, service)
}

// DatacenterState is what is known of the services of one datacenter.
type DatacenterState struct {
	// Name is empty for the agent's own datacenter.
	Name string
	// Known is false until the first answer; Err says why there is none now. What is
	// Known with an Err is what was known last, as of Confirmed.
	Known     bool
	Err       error
	Confirmed time.Time
}

// Stale reports whether what is known of the datacenter is old.
func (s DatacenterState) Stale() bool { return s.Known && s.Err != nil }

// Datacenters returns what is known of each, the own one first.
func (r *ResolverFederated) Datacenters() []DatacenterState {
	states := make([]DatacenterState, len(r.places))
	for i, place := range r.places {
		state := place.names.State()
		states[i] = DatacenterState{place.datacenter, state.Known, state.Err, state.Confirmed}
	}
	return states
}

// Run follows until ctx ends, and then returns nil.
func (r *ResolverFederated) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	news := make(chan struct{}, 1)
	for _, place := range r.places {
		group.Go(func() { _ = place.Run(ctx) })
		group.Go(func() { announce(ctx, place.Changed, news) })
	}
	for {
		r.publish()
		select {
		case <-ctx.Done():
			return nil
		case <-news:
		}
	}
}

// announce sends to news, without blocking, whenever changed is closed.
func announce(ctx context.Context, changed func() <-chan struct{}, news chan<- struct{}) {
	for {
		channel := changed()
		select {
		case news <- struct{}{}:
		default:
		}
		select {
		case <-channel:
		case <-ctx.Done():
			return
		}
	}
}

// publish puts the datacenters together. A service whose instances are the same as
// before keeps its slice: readers know by that that there is nothing to do.
func (r *ResolverFederated) publish() {
	old := r.snap.Load()
	next := &federatedSnapshot{parts: make([]map[string][]mesh.Instance, len(r.places)), services: map[string][]mesh.Instance{}, changed: make(chan struct{})}
	for i, place := range r.places {
		next.parts[i] = place.Services()
		for name := range next.parts[i] {
			next.services[name] = nil
		}
	}
	for name := range next.services {
		next.services[name] = old.merged(next.parts, name)
	}
	next.indexes = r.indexed(old, next)
	if maps.EqualFunc(old.services, next.services, sameSlice) {
		next.changed = old.changed
	}
	r.snap.Store(next)
	if next.changed != old.changed {
		close(old.changed)
	}
}

// indexed returns the indexes of a snapshot that comes after another.
func (r *ResolverFederated) indexed(old, next *federatedSnapshot) map[string]uint64 {
	indexes := make(map[string]uint64, len(old.indexes))
	forget := len(old.indexes) > len(next.services)+mostDeparted
	for name, index := range old.indexes {
		if _, there := next.services[name]; there || !forget {
			indexes[name] = index
		}
	}
	for i, place := range r.places {
		for _, part := range []map[string][]mesh.Instance{old.parts[i], next.parts[i]} {
			for name := range part {
				if !sameSlice(old.parts[i][name], next.parts[i][name]) {
					indexes[name] = place.Index(name)
				}
			}
		}
	}
	return indexes
}

// merged returns the instances of a service in all parts.
func (s *federatedSnapshot) merged(parts []map[string][]mesh.Instance, name string) []mesh.Instance {
	same, filled := true, 0
	var only []mesh.Instance
	for i, part := range parts {
		same = same && sameSlice(s.parts[i][name], part[name])
		if len(part[name]) > 0 {
			filled++
			only = part[name]
		}
	}
	switch {
	case same && s.services[name] != nil:
		return s.services[name]
	case filled == 1:
		return only
	}
	var all []mesh.Instance
	for _, part := range parts {
		all = append(all, part[name]...)
	}
	return slices.Clip(all)
}

func sameSlice(a, b []mesh.Instance) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
