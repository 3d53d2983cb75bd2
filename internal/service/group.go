package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// The bounds of a stop, unless a Group says otherwise. Together they keep the
// promise that a process is gone 5 s after SIGTERM.
const (
	DefaultGrace = 3 * time.Second
	DefaultBound = 4500 * time.Millisecond
)

// ErrHung means that actors were asked to stop and did not return in time. The
// error around it names them.
var ErrHung = errors.New("did not stop in time")

// Group is the set of actors that a process consists of. The first actor that
// returns, the end of the context, SIGINT or SIGTERM stops the whole group.
//
// Actors are stopped in the reverse of the order in which they were added, each
// after the one added behind it has returned. So add what others rely on first
// (credentials, the operations endpoint), what serves next, and what announces
// the service last: a stop then takes back the announcement, drains, and only
// then takes away what the draining requests need.
//
// The zero Group is ready for use. It is for one Run and not safe for
// concurrent use.
type Group struct {
	// Logger gets one line per stop and per late error; nil is silent.
	Logger *slog.Logger
	// Grace is how long the stop keeps its order; after it every actor that is
	// left is stopped at once. 0 is DefaultGrace.
	Grace time.Duration
	// Bound is how long the stop may take in all; after it Run returns ErrHung
	// with the names of those that still run. 0 is DefaultBound.
	Bound time.Duration

	actors []*actor
}

type actor struct {
	name string
	run  func(context.Context) error
	stop context.CancelFunc
	done chan struct{}
	err  error // written before done is closed
}

// Add adds an actor. run must block until its context ends or it fails, and must
// wait for everything that it has started. A return before the context ends
// stops the group, with or without an error.
func (g *Group) Add(name string, run func(context.Context) error) {
	g.actors = append(g.actors, &actor{name: name, run: run, done: make(chan struct{})})
}

// Run runs all actors and returns when every one of them has returned or the
// bound has passed. It returns nil after a stop from outside (ctx, SIGINT,
// SIGTERM), else why the first actor returned. A second signal ends the process
// at once, as if nobody had caught the first.
func (g *Group) Run(ctx context.Context) error {
	ctx, release := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer release()

	first := make(chan *actor, len(g.actors))
	for _, a := range g.actors {
		// Not a child of ctx in its end: the group decides who stops when.
		child, stop := context.WithCancel(context.WithoutCancel(ctx))
		a.stop = stop
		go a.work(child, first)
	}

	var cause error
	select {
	case <-ctx.Done():
		release()
		g.log("stopping", "reason", context.Cause(ctx))
	case a := <-first:
		cause = a.reason()
		g.log("stopping", "reason", cause)
	}
	if hung := g.stopAll(); hung != "" {
		return errors.Join(cause, fmt.Errorf("stop %s: %w", hung, ErrHung))
	}
	g.logLate(cause)
	return cause
}

// work runs the actor to its end. A panic is not caught: it must end the
// process with its stack.
func (a *actor) work(ctx context.Context, first chan<- *actor) {
	a.err = a.run(ctx)
	close(a.done)
	first <- a
}

// reason says why an actor returned although nobody asked it to.
func (a *actor) reason() error {
	if a.err == nil {
		return fmt.Errorf("run %s: it returned although nothing asked it to stop", a.name)
	}
	return fmt.Errorf("run %s: %w", a.name, a.err)
}

// stopAll stops the actors, last added first, and returns the names of those
// that did not return within the bound.
func (g *Group) stopAll() (hung string) {
	grace := time.NewTimer(orDefault(g.Grace, DefaultGrace))
	defer grace.Stop()
	bound := time.NewTimer(orDefault(g.Bound, DefaultBound))
	defer bound.Stop()

	for i := len(g.actors) - 1; i >= 0; i-- {
		g.actors[i].stop()
		for waiting := true; waiting; {
			select {
			case <-g.actors[i].done:
				waiting = false
			case <-grace.C:
				for _, a := range g.actors {
					a.stop()
				}
			case <-bound.C:
				return strings.Join(g.running(), ", ")
			}
		}
	}
	return ""
}

func (g *Group) running() []string {
	var names []string
	for _, a := range g.actors {
		select {
		case <-a.done:
		default:
			names = append(names, a.name)
		}
	}
	return names
}

// logLate reports errors of actors that failed while they were being stopped:
// they do not change how the process ends, but they must not vanish.
func (g *Group) logLate(cause error) {
	for _, a := range g.actors {
		if a.err != nil && !errors.Is(a.err, context.Canceled) && !errors.Is(cause, a.err) {
			g.log("actor failed while stopping", "actor", a.name, "err", a.err)
		}
	}
}

func (g *Group) log(message string, args ...any) {
	if g.Logger != nil {
		g.Logger.Info(message, args...)
	}
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}
