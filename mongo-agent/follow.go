package main

import (
	"context"
	"sync"
	"time"

	"sluice/mongo-agent/heartbeat"
	"sluice/mongo-agent/hello"
	"sluice/mongo-agent/role"
	"sluice/mongo-agent/vitals"
)

// follow follows mongod and the other agents until ctx ends, then cuts
// everything.
func (a *agent) follow(ctx context.Context) error {
	heard, seen := make(chan hello.Event), make(chan vitals.Event)
	following, stop := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	watchers.Go(func() { _ = a.follower.Run(following, heard) })
	watchers.Go(func() { _ = a.watch.Run(following, seen) })
	defer close(a.over)
	defer a.close()
	defer watchers.Wait()
	defer stop()
	a.publishRepl()
	for {
		view, news := a.circle.View()
		a.lookAround(view)
		if err := a.fence(ctx); err != nil {
			return err
		}
		if err := a.next(ctx, heard, seen, news); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// fencedPause is how often a fenced primary looks whether it may be served again.
const fencedPause = 25 * time.Millisecond

// next waits for the next thing that happens and acts on it.
func (a *agent) next(ctx context.Context, heard <-chan hello.Event, seen <-chan vitals.Event, news <-chan struct{}) error {
	var expiry <-chan time.Time
	if s := a.machine.Snapshot(); s.State == role.Primary {
		// A little late rather than early: then the lease has surely ended. One that
		// comes back is no news, so it is looked for.
		pause := a.lease.left() + time.Millisecond
		if s.Fence != "" || pause <= 0 {
			pause = fencedPause
		}
		timer := time.NewTimer(pause)
		defer timer.Stop()
		expiry = timer.C
	}
	select {
	case <-ctx.Done():
		return nil
	case e := <-heard:
		return a.observe(ctx, e)
	case e := <-seen:
		return a.notice(ctx, e)
	case do := <-a.requests:
		return do(ctx)
	case <-news:
	case <-expiry:
	case <-a.retired:
		a.resume()
	}
	return nil
}

// lookAround refuses for the members whose agents are lost.
func (a *agent) lookAround(view heartbeat.View) {
	a.self.lost(view.Lost())
	if highest, _ := view.HighestTerm(); highest > 0 {
		a.self.highest(highest)
	}
	for i, m := range a.others() {
		if len(a.peers) == 0 {
			return
		}
		if p, ok := view.Peer(m.Node); ok && p.Lost {
			a.peers[i].Lose(p.Reason)
		} else {
			a.peers[i].Find()
		}
	}
}

// request has follow's goroutine do something, and waits for it.
func (a *agent) request(ctx context.Context, do func(context.Context) error) error {
	done := make(chan error, 1)
	select {
	case a.requests <- func(ctx context.Context) error { err := do(ctx); done <- err; return err }:
		return <-done
	case <-a.over:
		return nil // nothing is served any more
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close cuts every door and waits until nothing is left.
func (a *agent) close() {
	for _, state := range []role.State{role.Primary, role.Secondary} {
		a.network.Registrar.Remove(a.instance(serviceOf(state)))
		a.doors[state].Close()
	}
	a.network.Registrar.Remove(a.instance(replService))
	if a.repl != nil {
		a.repl.Close()
	}
	a.waiting.Wait()
}
