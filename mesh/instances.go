package mesh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// An instance that failed comes last for excludeTime.
const excludeTime = 3 * time.Second

// attemptMin is the least time that one of several instances gets.
const attemptMin = 500 * time.Millisecond

// Dial connects to a healthy instance of service. It tries one after the other,
// those that failed in the last seconds last, until one accepts us or the time
// is over; the time is shared so that one that does not answer leaves some for
// the others. A deny ends it, unless our own intentions say that we are allowed:
// then another instance may know it already.
func (d *Dialer) Dial(ctx context.Context, service string) (*Conn, error) {
	return d.dial(ctx, service, d.cfg.Prefer)
}

func (d *Dialer) dial(ctx context.Context, service string, prefer func([]Instance) []Instance) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	own, err := d.credentials()
	if err == nil {
		if err = d.refused(own, service); err != nil {
			d.count(service, dialDenied)
		}
	}
	if err == nil && d.cfg.Resolver == nil {
		err = errors.New("no resolver")
	}
	var instances []Instance
	if err == nil {
		instances, err = d.cfg.Resolver.Instances(ctx, service)
		if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrNoInstance) {
			err = fmt.Errorf("%w is known yet: %w", ErrNoInstance, err)
		}
	}
	if err == nil {
		if instances = d.order(instances, prefer); len(instances) == 0 {
			err = ErrNoInstance
		}
	}
	if err != nil {
		return nil, fmt.Errorf("mesh: dial %s: %w", service, withTimeout(err))
	}
	return d.dialAny(ctx, service, instances)
}

func (d *Dialer) dialAny(ctx context.Context, service string, instances []Instance) (*Conn, error) {
	var last error
	for i, instance := range instances {
		attempt, cancel := context.WithTimeout(ctx, share(ctx, len(instances)-i))
		conn, err := d.DialInstance(attempt, instance)
		cancel()
		if err == nil {
			return conn, nil
		}
		last = err
		if errors.Is(err, ErrNotReady) || ctx.Err() != nil || errors.Is(err, ErrDenied) && !d.knownAllowed(service) {
			break
		}
	}
	if len(instances) > 1 && !errors.Is(last, ErrDenied) {
		return nil, fmt.Errorf("%w (%d instances known, none accepted)", last, len(instances))
	}
	return nil, last
}

// share is the part of the remaining time that the next of n attempts may take.
func share(ctx context.Context, n int) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return DefaultDialTimeout
	}
	return max(time.Until(deadline)/time.Duration(n), attemptMin)
}

// knownAllowed reports whether our own intentions allow us to call service.
func (d *Dialer) knownAllowed(service string) bool {
	policy, ok := d.policy()
	if !ok {
		return false
	}
	own, err := d.credentials()
	return err == nil && policy.Set.Decide(own.ID.Service(), service).Allowed
}

// order returns the order in which instances are tried. The argument is not
// changed.
func (d *Dialer) order(instances []Instance, prefer func([]Instance) []Instance) []Instance {
	ordered := slices.Clone(instances)
	rand.Shuffle(len(ordered), func(i, j int) { ordered[i], ordered[j] = ordered[j], ordered[i] })
	if prefer != nil {
		ordered = prefer(ordered)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	good, bad := make([]Instance, 0, len(ordered)), []Instance(nil)
	for _, instance := range ordered {
		if now.Before(d.failed[instance.Address]) {
			bad = append(bad, instance)
		} else {
			good = append(good, instance)
		}
	}
	return append(good, bad...)
}

func (d *Dialer) exclude(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(d.failed, func(_ string, until time.Time) bool { return now.After(until) })
	d.failed[address] = now.Add(excludeTime)
}

func (d *Dialer) forgive(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.failed, address)
}

// resolutions is what a Resolver may also offer: a channel that is closed when
// the instances of a service change.
type resolutions interface {
	Changed(service string) <-chan struct{}
}
