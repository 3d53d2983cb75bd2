package main

import (
	"context"
	"sync"
	"time"

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

// listen runs all listeners until ctx ends, or one of them fails. They are one actor of
// the group, so that they are drained at the same time: one after the other, the time of
// the first would be over before the last had begun.
func (g *gateway) listen(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	failures := make(chan error, len(g.listeners))
	var running sync.WaitGroup
	for _, server := range g.listeners {
		running.Go(func() {
			defer stop()
			if err := server.Run(ctx); err != nil {
				failures <- err
			}
		})
	}
	running.Wait()
	select {
	case err := <-failures:
		return err
	default:
		return nil
	}
}
