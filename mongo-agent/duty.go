package main

import (
	"context"
	"time"

	"sluice/mongo-agent/account"
	"sluice/mongo-agent/mongod"
	"sluice/mongo-agent/replset"
	"sluice/mongo-agent/role"
)

const (
	// appDatabase is where the application's user and its data live.
	appDatabase = "blog"
	// ensureTimeout bounds one attempt to make the user, majority write included.
	ensureTimeout = 15 * time.Second
	// calmTime is how long after an election a user that exists is left alone: to
	// try its password takes two logins, some 15 ms of a processor, and in the first
	// moments of a term everybody else logs in, too.
	calmTime     = 3 * time.Second
	dutyPauseMin = 100 * time.Millisecond
	dutyPauseMax = 2 * time.Second
)

// initiate brings the set into being, as soon as mongod answers, and then has
// nothing more to do until ctx ends.
func (a *agent) initiate(ctx context.Context) error {
	answers := func(s role.Snapshot) bool { return s.State != role.Unknown && s.State != role.Dead }
	if _, ok := a.await(ctx, answers); ok {
		err := replset.Bring(ctx, replset.Config{
			Set: a.Set, Mongod: a.Mongod, Members: a.founders(), Timing: a.profile.Timing,
			Key: a.key, Store: a.network.Store, Logger: a.logger,
		})
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// keepUser makes the application's user whenever the own member becomes the
// primary.
func (a *agent) keepUser(ctx context.Context, password mongod.Secret) error {
	isPrimary := func(s role.Snapshot) bool { return s.State == role.Primary }
	for {
		changed, ok := a.await(ctx, isPrimary)
		if !ok {
			return nil
		}
		term, stop := until(ctx, changed)
		a.makeUser(term, password)
		<-term.Done()
		stop()
	}
}

// until returns a context that also ends when the channel is closed. stop frees
// what it holds.
func until(ctx context.Context, closed <-chan struct{}) (bounded context.Context, stop func()) {
	bounded, cancel := context.WithCancel(ctx)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		defer cancel()
		select {
		case <-closed:
		case <-bounded.Done():
		}
	}()
	return bounded, func() { cancel(); <-watching }
}

// makeUser tries until it succeeds or ctx ends.
func (a *agent) makeUser(ctx context.Context, password mongod.Secret) {
	cfg := account.Config{
		Address: a.Mongod, Key: a.key, Database: appDatabase, Name: a.AppUser, Password: password,
	}
	if exists, err := account.Exists(ctx, a.system, cfg); exists && err == nil {
		pause(ctx, calmTime)
	}
	next := dutyPauseMin
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, ensureTimeout)
		outcome, err := account.Ensure(attempt, cfg)
		cancel()
		if err == nil {
			a.logger.Info("application user", "user", a.AppUser, "outcome", string(outcome))
			return
		}
		if ctx.Err() == nil {
			a.logger.Warn("application user is not made yet", "user", a.AppUser, "err", err)
		}
		pause(ctx, next)
		next = min(2*next, dutyPauseMax)
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// await waits until the snapshot satisfies a condition, and returns the channel
// that is closed when it changes after that; false means that ctx ended before.
func (a *agent) await(ctx context.Context, holds func(role.Snapshot) bool) (changed <-chan struct{}, ok bool) {
	for {
		s, changed := a.board.Snapshot()
		if holds(s) {
			return changed, ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return nil, false
		case <-changed:
		}
	}
}
