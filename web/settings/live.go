package settings

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"
)

// Written is what Consul holds at one moment.
type Written struct {
	// Known is false before the first answer.
	Known bool
	// Values are by full key.
	Values map[string][]byte
	// Index is Consul's index of the answer.
	Index uint64
	// Confirmed is when Consul last said so; Err is why it cannot be asked now, and
	// FailingSince since when.
	Confirmed    time.Time
	Err          error
	FailingSince time.Time
}

// Source tells what is written.
type Source interface {
	// Written returns what is known now.
	Written() Written
	// Changed returns a channel that is closed when the values change.
	Changed() <-chan struct{}
}

// Snapshot is what is in force at one moment. It is immutable.
type Snapshot struct {
	Settings
	Items []Item
	// Unknown are keys that mean nothing.
	Unknown []string
	// Index is Consul's index of the newest answer, 0 before the first.
	Index uint64
}

// Live is the settings in force. Run is the only writer; the other methods may be
// called from anywhere and never wait.
type Live struct {
	source  Source
	logger  *slog.Logger
	applied func(Settings)
	now     func() time.Time
	current atomic.Pointer[Snapshot]
}

// NewLive returns settings that follow source, with the defaults until it is known.
// applied is told of every change, from Run; nil is nobody.
func NewLive(source Source, logger *slog.Logger, applied func(Settings)) *Live {
	l := &Live{source: source, logger: logger, applied: applied, now: time.Now}
	start := Snapshot{Settings: Defaults()}
	_, start.Items, _ = Parse(start.Settings, nil, nil)
	for i, now := 0, l.now(); i < len(start.Items); i++ {
		start.Items[i].Since = now
	}
	l.current.Store(&start)
	return l
}

// Current returns what is in force now.
func (l *Live) Current() Snapshot { return *l.current.Load() }

// Source returns what Consul last said.
func (l *Live) Source() Written { return l.source.Written() }

// Run follows the source until ctx ends, and then returns nil.
func (l *Live) Run(ctx context.Context) error {
	for {
		changed := l.source.Changed()
		if written := l.source.Written(); written.Known {
			l.take(written)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *Live) take(written Written) {
	old := l.Current()
	next, now := Snapshot{Index: written.Index}, l.now()
	next.Settings, next.Items, next.Unknown = Parse(old.Settings, old.Items, written.Values)
	for i := range next.Items {
		item, was := &next.Items[i], itemOf(old.Items, next.Items[i].Key)
		if item.Since, item.Index = was.Since, was.Index; item.Value != was.Value || item.Default != was.Default {
			item.Since, item.Index = now, written.Index
		}
	}
	l.current.Store(&next)
	if l.applied != nil {
		l.applied(next.Settings)
	}
	for _, item := range next.Items {
		was := itemOf(old.Items, item.Key)
		if item.Refused != "" && (item.Refused != was.Refused || item.Why != was.Why) {
			l.logger.Warn("setting refused, the last good value stays", "key", item.Key, "refused", item.Refused, "why", item.Why, "value", item.Value, "index", written.Index)
		}
		if item.Value != was.Value {
			l.logger.Info("setting changed", "key", item.Key, "value", item.Value, "was", was.Value, "index", written.Index)
		}
	}
	for _, name := range next.Unknown {
		if !slices.Contains(old.Unknown, name) {
			l.logger.Warn("setting unknown", "key", name)
		}
	}
}
