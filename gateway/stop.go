package main

import (
	"context"
	"sync"
	"time"

	"sluice/gateway/listen"
	"sluice/internal/service"
)

// leaving is how long registrations may take to go at a stop, where the agent hangs: the
// gateway's own, and those of routes.
const leaving = 2 * 2 * time.Second

// stopTimes are how long a stop keeps its order, and how long it may take in all. What
// is in flight has its drain whatever the agent does, unless both are the short ones of
// every process.
func stopTimes(delay, drain time.Duration) (grace, bound time.Duration) {
	grace = service.DefaultGrace
	if delay+drain+time.Second > grace {
		grace = delay + drain + leaving + time.Second
	}
	return grace, grace + service.DefaultBound - service.DefaultGrace
}

// listening runs all listeners until ctx ends. They are one actor of the group, so that
// they are drained at the same time: one after the other, the time of the first would be
// over before the last had begun.
type listening struct {
	servers []*listen.Server
	failed  chan error
}

func newListening(servers []*listen.Server) listening {
	return listening{servers, make(chan error, len(servers))}
}

// run is for the actor that serves.
func (l listening) run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, server := range l.servers {
		running.Go(func() {
			if err := server.Run(ctx); err != nil {
				l.failed <- err
			}
		})
	}
	running.Wait()
	<-ctx.Done()
	return nil
}

// watch is for one behind it, which begins a stop if a listener fails: the others serve
// until the registration is gone.
func (l listening) watch(ctx context.Context) error {
	select {
	case err := <-l.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}
