package mesh

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// DefaultKeep is how long a Roster remembers what Consul no longer names.
const DefaultKeep = 10 * time.Minute

// rosterPoll is how often a Roster asks where the resolver does not say when it
// knows more.
const rosterPoll = time.Second

// RosterConfig is what a Roster learns from.
type RosterConfig struct {
	// Resolver names the instances. Required.
	Resolver Resolver
	// Services are those whose instances are learned. Required.
	Services []string
	// Door turns an instance of one of Services into the one to try; false leaves
	// it out. nil is the instance itself.
	Door func(Instance) (Instance, bool)
	// Keep is how long an instance that the resolver no longer names is
	// remembered; default 10 min.
	Keep time.Duration
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// Roster remembers where a service may be reached although the catalog does not
// say so: late, dead, or after it has dropped a node that only it has lost. Its
// Candidates are guesses to be tried, each with the identity that must answer.
// It is safe for concurrent use.
type Roster struct {
	cfg RosterConfig

	mu   sync.Mutex
	seen map[string]sighting // by the address of the door
}

type sighting struct {
	instance Instance
	last     time.Time
}

// NewRoster returns a Roster that knows nobody.
func NewRoster(cfg RosterConfig) *Roster {
	if cfg.Door == nil {
		cfg.Door = func(i Instance) (Instance, bool) { return i, true }
	}
	if cfg.Keep <= 0 {
		cfg.Keep = DefaultKeep
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Roster{cfg: cfg, seen: make(map[string]sighting)}
}

// Run learns until ctx ends; then it returns nil.
func (r *Roster) Run(ctx context.Context) error {
	var watchers sync.WaitGroup
	defer watchers.Wait()
	for _, service := range r.cfg.Services {
		watchers.Go(func() { r.watch(ctx, service) })
	}
	<-ctx.Done()
	return nil
}

func (r *Roster) watch(ctx context.Context, service string) {
	ticker := time.NewTicker(rosterPoll)
	defer ticker.Stop()
	for {
		var changed <-chan struct{}
		if s, ok := r.cfg.Resolver.(resolutions); ok {
			changed = s.Changed(service)
		}
		if instances, err := r.cfg.Resolver.Instances(ctx, service); err == nil {
			r.learn(instances)
		}
		select {
		case <-changed:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (r *Roster) learn(instances []Instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	for _, instance := range instances {
		if door, ok := r.cfg.Door(instance); ok && door.Address != "" {
			r.seen[door.Address] = sighting{door, now}
		}
	}
	for address, s := range r.seen {
		if now.Sub(s.last) > r.cfg.Keep {
			delete(r.seen, address)
		}
	}
}

// Candidates returns the doors of all instances that were named within Keep, in
// the order of their addresses.
func (r *Roster) Candidates() []Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	out := make([]Instance, 0, len(r.seen))
	for _, s := range r.seen {
		if now.Sub(s.last) <= r.cfg.Keep {
			out = append(out, s.instance)
		}
	}
	slices.SortFunc(out, func(a, b Instance) int { return cmp.Compare(a.Address, b.Address) })
	return out
}
