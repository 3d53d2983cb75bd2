package consul

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"
)

const (
	// lockTTL is how long a dead holder keeps the lock, at least.
	lockTTL = 10 * time.Second
	// lockRenew is how often the session is renewed, lockGiveUp how long after the
	// last renewal the lock counts as lost: well before Consul gives it to another.
	lockRenew  = lockTTL / 4
	lockGiveUp = lockTTL * 7 / 10
	// lockDelay keeps others out for a moment after a holder was lost, not after
	// it released.
	lockDelay = time.Second
)

// ErrLockLost means that the lock could not be held until the work was done:
// somebody else may hold it now.
var ErrLockLost = errors.New("lock lost")

// WithLock runs fn while it holds the lock on key, of which there is one in the
// datacenter. It waits for the lock until ctx ends. The context of fn is
// cancelled, with cause ErrLockLost, when the lock cannot be held any longer; fn
// must then stop. The error is that of fn, or why the lock was not got.
func (c *Client) WithLock(ctx context.Context, key string, fn func(ctx context.Context) error) error {
	for failures := 0; ; {
		started, err := c.tryLock(ctx, key, fn)
		if started || ctx.Err() != nil || errors.Is(err, ErrForbidden) {
			return err
		}
		// A session that ended while it queued, or an agent that is away: again.
		failures++
		c.log.Warn("lock not got, trying again", "key", key, "err", err)
		if !sleep(ctx, retryIn(failures)) {
			return fmt.Errorf("lock %s: %w: %w", key, context.Cause(ctx), err)
		}
	}
}

// tryLock is one session's attempt. started says that fn ran.
func (c *Client) tryLock(ctx context.Context, key string, fn func(ctx context.Context) error) (started bool, err error) {
	session, err := c.openSession(ctx, key)
	if err != nil {
		return false, err
	}
	defer c.closeSession(context.WithoutCancel(ctx), key, session)
	held, lose := context.WithCancelCause(ctx)
	var keepers errgroup.Group
	defer func() { lose(nil); _ = keepers.Wait() }()
	keepers.Go(func() error { lose(c.keepSession(held, key, session)); return nil })
	if err := c.acquire(held, key, session); err != nil {
		return false, err
	}
	keepers.Go(func() error { lose(c.watchHolder(held, key, session)); return nil })
	if err := fn(held); err != nil {
		return true, err
	}
	if cause := context.Cause(held); errors.Is(cause, ErrLockLost) {
		return true, fmt.Errorf("lock %s: %w", key, cause)
	}
	return true, nil
}

func (c *Client) openSession(ctx context.Context, key string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	// No health checks: the TTL alone says whether the holder lives, also while
	// the agent's own check has not settled.
	id, _, err := c.brief.Session().CreateNoChecks(&api.SessionEntry{
		Name: "lock " + key, TTL: lockTTL.String(), LockDelay: lockDelay, Behavior: api.SessionBehaviorRelease,
	}, write(ctx))
	return id, explain("open a session", `session_prefix "" { policy = "write" }`, err)
}

// closeSession gives the lock back. Releasing first spares the next holder the
// lock delay.
func (c *Client) closeSession(ctx context.Context, key, session string) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	_, _, releaseErr := c.brief.KV().Release(&api.KVPair{Key: key, Session: session}, write(ctx))
	_, destroyErr := c.brief.Session().Destroy(session, write(ctx))
	if err := errors.Join(releaseErr, destroyErr); err != nil {
		c.log.Warn("lock not released, it expires by itself", "key", key, "err", err)
	}
}

// keepSession renews until ctx ends or the session cannot be trusted any more.
func (c *Client) keepSession(ctx context.Context, key, session string) error {
	giveUp := time.Now().Add(lockGiveUp)
	for wait := lockRenew; sleep(ctx, min(wait, time.Until(giveUp))); {
		sent := time.Now()
		entry, err := c.renew(ctx, session, giveUp)
		switch {
		case err == nil && entry == nil:
			return fmt.Errorf("%w: Consul ended the session of %s", ErrLockLost, key)
		case err == nil:
			giveUp, wait = sent.Add(lockGiveUp), lockRenew
		case !time.Now().Before(giveUp):
			return fmt.Errorf("%w: the session of %s could not be renewed: %w", ErrLockLost, key, err)
		default:
			wait = firstRetry
		}
	}
	return nil
}

func (c *Client) renew(ctx context.Context, session string, deadline time.Time) (*api.SessionEntry, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	entry, _, err := c.brief.Session().Renew(session, write(ctx))
	return entry, err
}

// acquire waits until the session holds the lock.
func (c *Client) acquire(ctx context.Context, key, session string) error {
	rule := keyRule(key, "write")
	for {
		got, err := c.acquireOnce(ctx, key, session)
		if err != nil {
			return explain("lock "+key, rule, err)
		}
		if got {
			return nil
		}
		if err := c.awaitRelease(ctx, key); err != nil {
			return explain("wait for lock "+key, rule, err)
		}
		if !sleep(ctx, firstRetry) {
			return fmt.Errorf("wait for lock %s: %w", key, context.Cause(ctx))
		}
	}
}

func (c *Client) acquireOnce(ctx context.Context, key, session string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	got, _, err := c.brief.KV().Acquire(&api.KVPair{Key: key, Session: session}, write(ctx))
	return got, err
}

// awaitRelease returns when nobody holds the lock.
func (c *Client) awaitRelease(ctx context.Context, key string) error {
	return until(ctx, c.watchSession(key), func(holder string) bool { return holder == "" })
}

// watchHolder returns ErrLockLost when the lock is no longer the session's, and
// nil when ctx ends.
func (c *Client) watchHolder(ctx context.Context, key, session string) error {
	err := until(ctx, c.watchSession(key), func(holder string) bool { return holder != session })
	if ctx.Err() != nil || err != nil {
		return nil
	}
	return fmt.Errorf("%w: somebody else holds %s, or it was deleted", ErrLockLost, key)
}

// watchSession follows which session holds key.
func (c *Client) watchSession(key string) *Watch[string] {
	return newWatch(watchConfig[string]{
		name: "lock " + key, logger: c.log, equal: func(a, b string) bool { return a == b },
		query: func(_ context.Context, options *api.QueryOptions) (string, *api.QueryMeta, error) {
			pair, meta, err := pairOf(c.long, key, options)
			if err != nil || pair == nil {
				return "", meta, err
			}
			return pair.Session, meta, nil
		},
	})
}

// until runs watch until its value satisfies done, or ctx ends, or Consul's ACLs
// refuse it.
func until(ctx context.Context, watch *Watch[string], done func(string) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	var group errgroup.Group
	defer func() { cancel(); _ = group.Wait() }()
	group.Go(func() error { return watch.Run(ctx) })
	for {
		round := watch.round()
		state := watch.State()
		switch {
		case state.Known && done(state.Value):
			return nil
		case errors.Is(state.Err, ErrForbidden):
			return state.Err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-round:
		}
	}
}
