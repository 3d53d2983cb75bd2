package consul

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/mesh"
)

// remoteWait is how long Consul holds a blocking query about another datacenter: a
// way there that is cut silently is noticed by the answer that does not come.
const remoteWait = 8 * time.Second

// placeOf names a watch after the datacenter that it asks, and says how long Consul is
// to hold its queries; the empty datacenter is the agent's own.
func placeOf(what, datacenter string) (name string, wait time.Duration) {
	if datacenter == "" {
		return what, watchWait
	}
	return what + " in " + datacenter, remoteWait
}

// seeker follows one service in several datacenters. Its run is its only writer.
type seeker struct {
	service string
	places  []placed
	kick    chan struct{}
	snap    atomic.Pointer[sought]
}

// placed is what is known of a service in one datacenter; "" is the agent's own.
type placed struct {
	datacenter string
	watch      *Watch[instanceList]
}

// sought are the instances of all datacenters at one moment, the own one's first.
// known is false until the own datacenter and, unless there is an instance, all others
// have answered or could not be asked.
type sought struct {
	instances []mesh.Instance
	known     bool
	err       error
	// changed is closed when the instances become others, round when anything is new.
	changed, round chan struct{}
}

func (c *Client) seek(service string, others []string, roots *Watch[rootFacts]) *seeker {
	s := &seeker{service: service, kick: make(chan struct{}, 1)}
	for _, datacenter := range append([]string{""}, others...) {
		s.places = append(s.places, placed{datacenter, c.watchInstances(service, datacenter, roots, s.kick)})
	}
	s.snap.Store(&sought{changed: make(chan struct{}), round: make(chan struct{})})
	return s
}

// run follows until ctx ends.
func (s *seeker) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, place := range s.places {
		group.Go(func() error { return place.watch.Run(ctx) })
	}
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-s.kick:
				s.publish(s.count())
			}
		}
	})
	return group.Wait()
}

func (s *seeker) publish(next sought) {
	old := s.snap.Load()
	changed := !slices.EqualFunc(old.instances, next.instances, sameInstance)
	next.round, next.changed = make(chan struct{}), old.changed
	if changed {
		next.changed = make(chan struct{})
	}
	s.snap.Store(&next)
	close(old.round)
	if changed {
		close(old.changed)
	}
}

// await returns the instances, waiting until they are known or ctx ends.
func (s *seeker) await(ctx context.Context) ([]mesh.Instance, error) {
	for {
		now := s.snap.Load()
		if now.known {
			return now.instances, now.err
		}
		select {
		case <-ctx.Done():
			return nil, unanswered(ctx, s.service, now.err)
		case <-now.round:
		}
	}
}

// count puts together what the datacenters answered. One that cannot be asked counts
// by what was known of it last, and as one without instances if that is nothing.
func (s *seeker) count() sought {
	counted := sought{known: true}
	var problems []error
	for _, place := range s.places {
		state := place.watch.State()
		own := place.datacenter == ""
		switch {
		case state.Known:
			found, err := judgeInstances(s.service, state)
			counted.instances = append(counted.instances, found...)
			problems = append(problems, inDatacenter(place.datacenter, err))
		case errors.Is(state.Err, ErrForbidden), !own && state.Err != nil:
			problems = append(problems, inDatacenter(place.datacenter, state.Err))
		default:
			counted.known = counted.known && !own && len(counted.instances) > 0
			problems = append(problems, inDatacenter(place.datacenter, state.Err))
		}
	}
	if len(counted.instances) > 0 {
		return counted
	}
	if counted.err = errors.Join(problems...); !errors.Is(counted.err, mesh.ErrNoInstance) {
		counted.err = fmt.Errorf("resolve %s: %w: %w", s.service, mesh.ErrNoInstance, counted.err)
	}
	return counted
}

func inDatacenter(name string, err error) error {
	if err == nil || name == "" {
		return err
	}
	return fmt.Errorf("in datacenter %s: %w", name, err)
}
