package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"

	"sluice/consul"
	"sluice/internal/service"
	"sluice/web/settings"
)

// written makes a source of settings of a watch of their keys.
type written struct {
	watch *consul.Watch[[]consul.KVEntry]
}

// away returns why Consul cannot be asked now. An answer that refuses is an answer, and
// one failure alone is not told: a change of Consul's leader is over by the next. An
// agent that hangs has been silent for seconds by then.
func (w written) away() error {
	state := w.watch.State()
	if state.Err == nil || errors.Is(state.Err, consul.ErrForbidden) || state.Failures < 2 && !errors.Is(state.Err, consul.ErrHung) {
		return nil
	}
	return state.Err
}

func (w written) Changed() <-chan struct{} { return w.watch.Changed() }

func (w written) Written() settings.Written {
	state := w.watch.State()
	values := map[string][]byte{}
	for _, entry := range state.Value {
		values[entry.Key] = entry.Value
	}
	return settings.Written{Known: state.Known, Values: values, Index: state.Index, Confirmed: state.Confirmed, Err: state.Err, FailingSince: state.FailingSince}
}

// follow makes the settings that follow Consul. Debugging moves the level of the log.
// away tells why Consul cannot be asked now.
func (cfg config) follow(group *service.Group, client *consul.Client, logger *slog.Logger, level *slog.LevelVar) (live *settings.Live, away func() error) {
	usual := level.Level()
	watch := client.KVTreeWatch(strings.TrimSuffix(settings.Prefix, "/"))
	source := written{watch}
	live = settings.NewLive(source, logger, func(now settings.Settings) {
		level.Set(usual)
		if now.Debug {
			level.Set(min(usual, slog.LevelDebug))
		}
	})
	group.Add("watch of the settings", watch.Run)
	group.Add("settings", live.Run)
	return live, source.away
}

// logger returns the process' logger, and its level, which may be moved.
func (cfg config) logger(w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := &slog.LevelVar{}
	_ = level.UnmarshalText([]byte(cfg.LogLevel)) // Validate has judged it
	all := cfg.Common
	all.LogLevel = "debug"
	return slog.New(gate{all.Logger(w).Handler(), level}), level
}

// gate is a log handler whose level moves. What is behind it must take every level.
type gate struct {
	slog.Handler
	level *slog.LevelVar
}

func (g gate) Enabled(_ context.Context, level slog.Level) bool { return level >= g.level.Level() }

func (g gate) WithAttrs(attrs []slog.Attr) slog.Handler {
	return gate{g.Handler.WithAttrs(attrs), g.level}
}

func (g gate) WithGroup(name string) slog.Handler { return gate{g.Handler.WithGroup(name), g.level} }
