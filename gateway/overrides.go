package main

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sluice/consul"
	"sluice/gateway/override"
	"sluice/gateway/route"
)

// overridePatience bounds the wait for the first answer about overrides.
const overridePatience = 10 * time.Second

// overrides follow the operator's changes to the routes in Consul's key-value
// store. While Consul cannot be asked, the last ones hold. It is safe for
// concurrent use; Run is the only writer.
type overrides struct {
	watch  *consul.Watch[[]consul.KVEntry]
	config override.Config
	log    *slog.Logger
	state  atomic.Pointer[overrideState]
	// known is closed, once, when it is known for the first time what holds.
	known chan struct{}
	first sync.Once
}

type overrideState struct {
	// commands is nil while there are none.
	commands *override.Commands
	// index is Consul's, of the answer with the commands.
	index   uint64
	changed chan struct{}
}

func newOverrides(watch *consul.Watch[[]consul.KVEntry], cfg override.Config, log *slog.Logger) *overrides {
	o := &overrides{watch: watch, config: cfg, log: log, known: make(chan struct{})}
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

// Index implements proxy.IndexedOverrides.
func (o *overrides) Index() uint64 { return o.state.Load().index }

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
			o.take(state.Value, state.Index)
			o.first.Do(func() { close(o.known) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// await waits until it is known what holds, so that no request takes a route that
// an operator has taken away. It gives up after a while: a key that the gateway may
// not read must not keep every route from being served.
func (o *overrides) await(ctx context.Context) {
	timer := time.NewTimer(overridePatience)
	defer timer.Stop()
	select {
	case <-o.known:
	case <-ctx.Done():
	case <-timer.C:
		o.log.Warn("overrides are not known yet; routes are served without them until they are", "waited", overridePatience)
	}
}

// take reads the keys and says what is wrong with them.
func (o *overrides) take(entries []consul.KVEntry, index uint64) {
	old := o.state.Load()
	if len(entries) == 0 && old.commands == nil {
		return
	}
	next := &overrideState{index: index, changed: make(chan struct{})}
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
