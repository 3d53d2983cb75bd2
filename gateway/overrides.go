package main

import (
	"context"
	"log/slog"
	"sync/atomic"

	"sluice/consul"
	"sluice/gateway/override"
	"sluice/gateway/route"
)

// overrides follow the operator's changes to the routes in Consul's key-value
// store. While Consul cannot be asked, the last ones hold. It is safe for
// concurrent use; Run is the only writer.
type overrides struct {
	watch  *consul.Watch[[]consul.KVEntry]
	config override.Config
	log    *slog.Logger
	state  atomic.Pointer[overrideState]
}

type overrideState struct {
	// commands is nil while there are none.
	commands *override.Commands
	changed  chan struct{}
}

func newOverrides(watch *consul.Watch[[]consul.KVEntry], cfg override.Config, log *slog.Logger) *overrides {
	o := &overrides{watch: watch, config: cfg, log: log}
	o.state.Store(&overrideState{changed: make(chan struct{})})
	return o
}

// Rules implements proxy.Overrides.
func (o *overrides) Rules() route.Rules {
	if commands := o.state.Load().commands; commands != nil {
		return commands
	}
	return nil
}

// Changed implements proxy.Overrides.
func (o *overrides) Changed() <-chan struct{} { return o.state.Load().changed }

// Problems are the lines that are quarantined.
func (o *overrides) Problems() []override.Problem {
	if commands := o.state.Load().commands; commands != nil {
		return commands.Problems()
	}
	return nil
}

// Run follows the keys until ctx ends.
func (o *overrides) Run(ctx context.Context) error {
	for {
		changed := o.watch.Changed()
		if state := o.watch.State(); state.Known {
			o.take(state.Value)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// take reads the keys and says what is wrong with them.
func (o *overrides) take(entries []consul.KVEntry) {
	old := o.state.Load()
	if len(entries) == 0 && old.commands == nil {
		return
	}
	next := &overrideState{changed: make(chan struct{})}
	if len(entries) > 0 {
		sources := make([]override.Source, 0, len(entries))
		for _, entry := range entries {
			sources = append(sources, override.Source{Name: entry.Key, Text: string(entry.Value)})
		}
		next.commands = override.Parse(o.config, sources...)
		for _, problem := range next.commands.Problems() {
			o.log.Warn("ignoring an override", "key", problem.Source, "line", problem.Line, "text", problem.Text, "reason", problem.Reason)
		}
		o.log.Info("overrides changed", "commands", next.commands.Len(), "ignored", len(next.commands.Problems()))
	} else {
		o.log.Info("overrides are gone")
	}
	o.state.Store(next)
	close(old.changed)
}
