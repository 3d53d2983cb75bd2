package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// watchWait is how long Consul holds a blocking query that has no news.
	watchWait = 30 * time.Second
	// firstWait is the same for a query that asks for the present.
	firstWait = 5 * time.Second
	// probeWait is the same for a query that asks a cached endpoint whether its
	// servers are back.
	probeWait = time.Second
	// watchGrace is what an answer may take on top of Consul's own wait and its
	// jitter, before the agent counts as hung.
	watchGrace = 5 * time.Second
)

// ErrHung means that an agent has not answered for seconds longer than it was asked to
// wait.
var ErrHung = errors.New("the agent does not answer")

// State is what a Watch knows at one moment. It is immutable.
type State[T any] struct {
	// Value is the newest value that Consul answered. It stays when Consul cannot
	// be asked any more.
	Value T
	// Known is false until the first answer.
	Known bool
	// Index is Consul's index of the newest answer.
	Index uint64
	// Confirmed is when Consul last answered that this is the value.
	Confirmed time.Time
	// Failures counts the failed rounds since the last answer.
	Failures int
	// Err is why the last round failed; nil if it did not.
	Err error
	// FailingSince is when the first of these rounds failed; zero if none did.
	FailingSince time.Time
	// Recoveries counts how often an answer ended a row of failures.
	Recoveries uint64
}

// Watch follows one thing in Consul by blocking queries. Run is its only writer;
// State and Changed may be called from anywhere and never wait.
//
// The rules are those of Consul's documentation of blocking queries: an answer
// with the index that was asked about is no news; an index that went backwards starts
// again from 0; an equal value is no news either, but confirms what is known. Consul
// says 1 where it has no index, so that an answer without one, or with 0, is somebody
// else's: it is a failure, and what is known stays. After a failure the present is asked for, without waiting for
// a change, so that a recovery is seen at once.
//
// Some endpoints (roots, leaf) are answered from the agent's own cache. There the
// present proves nothing: the cache knows it also while every server is away. So
// after a failure these are asked for a change again, with a short wait.
type Watch[T any] struct {
	cfg  watchConfig[T]
	snap atomic.Pointer[snapshot[T]]
}

type watchConfig[T any] struct {
	// name says in logs and errors what is watched.
	name string
	// query asks Consul once. Its errors are shown to people. It may set the index to 0,
	// to ask for the present in place of a change.
	query func(context.Context, *api.QueryOptions) (T, *api.QueryMeta, error)
	// equal compares values; default reflect.DeepEqual.
	equal func(a, b T) bool
	// wait is how long Consul holds a query that has no news; default watchWait.
	wait time.Duration
	// cached says that the endpoint is answered from the agent's cache.
	cached bool
	// kick, if set, gets a value without blocking after every round.
	kick   chan<- struct{}
	logger *slog.Logger
}

type snapshot[T any] struct {
	state State[T]
	// changed is closed when the value changes, round when anything does.
	changed, round chan struct{}
}

func newWatch[T any](cfg watchConfig[T]) *Watch[T] {
	if cfg.equal == nil {
		cfg.equal = func(a, b T) bool { return reflect.DeepEqual(a, b) }
	}
	if cfg.wait == 0 {
		cfg.wait = watchWait
	}
	w := &Watch[T]{cfg: cfg}
	w.snap.Store(&snapshot[T]{changed: make(chan struct{}), round: make(chan struct{})})
	return w
}

// State returns what is known now.
func (w *Watch[T]) State() State[T] { return w.snap.Load().state }

// Changed returns a channel that is closed when the value becomes another one
// than State returns now. Take the channel first, then the State.
func (w *Watch[T]) Changed() <-chan struct{} { return w.snap.Load().changed }

// round returns a channel that is closed when the round in flight ends, whatever
// its result.
func (w *Watch[T]) round() <-chan struct{} { return w.snap.Load().round }

// Run follows until ctx ends, and then returns nil.
func (w *Watch[T]) Run(ctx context.Context) error {
	limit := limiter{interval: 30 * time.Millisecond, burst: 20}
	var index uint64
	for sleep(ctx, limit.delay(time.Now())) {
		value, meta, sent, err := w.ask(ctx, index)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if !w.cfg.cached {
				index = 0
			}
			failures := w.fail(err)
			sleep(ctx, retryIn(failures))
			continue
		}
		next, news := nextIndex(sent, meta.LastIndex)
		w.learn(value, meta.LastIndex, news)
		index = next
	}
	return nil
}

// nextIndex applies the index rules: sent is what was asked about, got what came
// back. news is false if the answer cannot hold anything new.
func nextIndex(sent, got uint64) (next uint64, news bool) {
	switch {
	case got < sent:
		return 0, true
	case got == sent:
		return got, false
	default:
		return got, true
	}
}

// ask asks once, about a change since index; sent is what was asked about in the end.
func (w *Watch[T]) ask(ctx context.Context, index uint64) (value T, meta *api.QueryMeta, sent uint64, err error) {
	wait := w.cfg.wait
	switch {
	case index == 0:
		wait = firstWait
	case w.State().Failures > 0:
		wait = probeWait
	}
	// Consul adds up to a sixteenth to the wait it was asked for.
	ctx, cancel := context.WithTimeoutCause(ctx, wait+wait/16+watchGrace, ErrHung)
	defer cancel()
	options := (&api.QueryOptions{WaitIndex: index, WaitTime: wait}).WithContext(ctx)
	value, meta, err = w.cfg.query(ctx, options)
	switch {
	case err != nil && errors.Is(context.Cause(ctx), ErrHung):
		err = fmt.Errorf("watch %s: %w", w.cfg.name, ErrHung)
	case err != nil:
		err = fmt.Errorf("watch %s: %w", w.cfg.name, err)
	case indexed(meta) != nil:
		err = fmt.Errorf("watch %s: %w", w.cfg.name, errNoIndex)
	}
	return value, meta, options.WaitIndex, err
}

// learn publishes an answer.
func (w *Watch[T]) learn(value T, index uint64, news bool) {
	old := w.snap.Load()
	next := &snapshot[T]{state: old.state, changed: old.changed, round: make(chan struct{})}
	changed := !old.state.Known || news && !w.cfg.equal(old.state.Value, value)
	if changed {
		next.state.Value = value
		next.changed = make(chan struct{})
	}
	next.state.Known = true
	next.state.Index = index
	next.state.Confirmed = time.Now()
	next.state.Failures, next.state.Err, next.state.FailingSince = 0, nil, time.Time{}
	if old.state.Failures > 0 {
		next.state.Recoveries++
		w.cfg.logger.Info("watch recovered", "watch", w.cfg.name, "failures", old.state.Failures, "index", index)
	}
	w.publish(old, next, changed)
}

// fail publishes a failed round and returns how many there are in a row.
func (w *Watch[T]) fail(err error) int {
	old := w.snap.Load()
	next := &snapshot[T]{state: old.state, changed: old.changed, round: make(chan struct{})}
	if next.state.Failures++; next.state.Failures == 1 {
		next.state.FailingSince = time.Now()
	}
	next.state.Err = err
	level := slog.LevelDebug
	if next.state.Failures == 1 {
		level = slog.LevelWarn
	}
	w.cfg.logger.Log(context.Background(), level, "watch failed, trying again", "watch", w.cfg.name, "err", err)
	w.publish(old, next, false)
	return next.state.Failures
}

func (w *Watch[T]) publish(old, next *snapshot[T], changed bool) {
	w.snap.Store(next)
	close(old.round)
	if changed {
		close(old.changed)
	}
	if w.cfg.kick != nil {
		select {
		case w.cfg.kick <- struct{}{}:
		default:
		}
	}
}
