package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	rollService   = "roll"
	rollPath      = "/roll"
	rollInstances = 3
	rollRate      = 1_000
	rollPort      = 8500 + 100
)

// rollingRestarts restarts every instance of a service in turn, as an operator
// does: stop it, start it, wait until the catalog has it again.
func (b *bench) rollingRestarts(ctx context.Context) error {
	if err := b.lab.agent.intend(ctx, rollService, "allow"); err != nil {
		return err
	}
	running := make([]*process, rollInstances)
	defer func() {
		for _, p := range running {
			p.stop(grace)
		}
	}()
	for i := range running {
		var err error
		if running[i], err = b.startRolling(ctx, i); err != nil {
			return err
		}
	}
	for _, p := range b.found {
		if p.brief {
			continue
		}
		if p.name != sluice {
			b.results.refuse(scenarioRestart, p.name, "not run: its configuration here is a file, and follows no restart")
			continue
		}
		if err := b.restartsUnder(ctx, p, running); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) restartsUnder(ctx context.Context, p foundPeer, running []*process) error {
	h := hit{"bench.test", rollPath}
	proxy, err := b.start(ctx, p, scenarioRestart, nil, h)
	if err != nil {
		return err
	}
	defer proxy.stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type ending struct {
		result loadResult
		err    error
	}
	// The load is cut into pieces, because it must last for as long as the restarts.
	ended := make(chan ending, 1)
	loading, finish := context.WithCancel(context.WithoutCancel(ctx))
	defer finish()
	go func() {
		var total loadResult
		for loading.Err() == nil && ctx.Err() == nil {
			r, err := b.generator.send(ctx, loadConfig{
				Address: proxy.plan.listen(), Hits: []hit{h}, Connections: b.cfg.connections, Rate: rollRate, Duration: 2 * time.Second,
			})
			if err != nil {
				ended <- ending{total, err}
				return
			}
			total.Requests += r.Requests
			total.Failed += r.Failed + r.Late
			total.P99 = max(total.P99, r.P99)
			if total.Reason == "" {
				total.Reason = r.Reason
			}
		}
		ended <- ending{total, nil}
	}()
	rolled := b.roll(ctx, running)
	finish()
	if rolled != nil {
		cancel()
	}
	end := <-ended
	if err := errors.Join(rolled, end.err); err != nil {
		return err
	}
	note := fmt.Sprintf("of %d, in %d restarts of each of %d instances; worst p99 of 2 s %.1f ms", end.result.Requests+end.result.Failed, b.cfg.restarts, rollInstances, end.result.P99/1000)
	if end.result.Reason != "" {
		note += "; the first: " + end.result.Reason
	}
	b.results.Values = append(b.results.Values, value{Scenario: scenarioRestart, Peer: p.name, Name: "failed", Unit: "requests", Value: float64(end.result.Failed), Note: note, Of: b.cfg.restarts})
	b.say("%s: %d failed %s", p.name, end.result.Failed, note)
	return nil
}

// roll restarts every instance cfg.restarts times.
func (b *bench) roll(ctx context.Context, running []*process) error {
	for n := range b.cfg.restarts {
		for i := range running {
			running[i].stop(10 * time.Second)
			var err error
			if running[i], err = b.startRolling(ctx, i); err != nil {
				return fmt.Errorf("restart %d: %w", n+1, err)
			}
		}
		b.say("rolling restart %d of %d", n+1, b.cfg.restarts)
	}
	return nil
}

// startRolling starts one instance and waits until the catalog calls it healthy.
func (b *bench) startRolling(ctx context.Context, i int) (*process, error) {
	name := fmt.Sprintf("%s-%d", rollService, i)
	p, err := b.lab.startUpstream(ctx, upstreamConfig{
		service: rollService, instance: name, mtls: rollPort + i, tags: []string{"urlprefix-" + rollPath},
	})
	if err != nil {
		return nil, err
	}
	err = eventually(ctx, name+" is healthy", func(ctx context.Context) error {
		var found []struct{ Service struct{ ID string } }
		if err := b.lab.agent.call(ctx, http.MethodGet, "/v1/health/connect/"+rollService+"?passing", nil, &found); err != nil {
			return err
		}
		var ids []string
		for _, f := range found {
			if f.Service.ID == name {
				return nil
			}
			ids = append(ids, f.Service.ID)
		}
		return fmt.Errorf("healthy are only: %s", strings.Join(ids, " "))
	})
	if err != nil {
		p.stop(grace)
		return nil, err
	}
	return p, nil
}
