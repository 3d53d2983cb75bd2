// Package accesslog writes one line per request.
//
// The goroutine of a request only copies into a bounded ring: it never waits,
// never allocates, and when the ring is full the entry is dropped and counted.
// Log.Run, alone, turns entries into lines and writes them in large pieces.
//
// Nothing that a client sends can end a line or a field: control characters and
// quotes are escaped in every format. Headers that hold secrets cannot be named
// in a format, and the values of query parameters with certain names are
// replaced.
package accesslog

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"sluice/internal/service/mask"
)

const (
	// DefaultRing is how many entries may wait; they take 2.5 KiB each.
	DefaultRing = 2048
	// DefaultFlush is how long a line may wait to be written.
	DefaultFlush = 500 * time.Millisecond
	// maxFlush is the longest that it may be made to wait.
	maxFlush = time.Second
	// batch is how much is written at once, in bytes.
	batch = 64 << 10
)

// Config is what a Log is made of.
type Config struct {
	// Output gets whole lines, from one goroutine. It may block: then entries are
	// dropped.
	Output io.Writer
	// Format is JSON, Common, Combined, or a text with fields; "" is Common.
	Format string
	// Secrets are the names of parameters of queries and paths whose values are not written; nil is
	// mask.Names.
	Secrets []string
	// Ring is how many entries may wait; 0 is DefaultRing.
	Ring int
	// Flush bounds how long a line waits; 0 is DefaultFlush, and it is at most 1 s.
	Flush time.Duration
	// Logger is told when Output fails and when it works again; nil is silent.
	Logger *slog.Logger
}

// Counters count what a Log has done. They never decrease.
type Counters struct {
	// Written lines; Dropped entries, for which there was no room, or which came
	// after the end; Lost lines, which Output did not take.
	Written, Dropped, Lost uint64
}

// Log is an access log. Put and Counters are safe for concurrent use; Run is for
// one goroutine.
type Log struct {
	cfg    Config
	format format
	ring   *ring
	// wake tells Run that half of the ring is full.
	wake    chan struct{}
	ended   atomic.Bool
	count   struct{ written, dropped, lost atomic.Uint64 }
	view    view
	pending []byte
	lines   uint64 // in pending
	failing bool
}

// New returns a Log. It writes nothing before Run.
func New(cfg Config) (*Log, error) {
	if cfg.Output == nil {
		return nil, errors.New("access log: it has no output")
	}
	if cfg.Format == "" {
		cfg.Format = Common
	}
	parsed, err := parseFormat(cfg.Format)
	if err != nil {
		return nil, err
	}
	if cfg.Ring <= 0 {
		cfg.Ring = DefaultRing
	}
	if cfg.Flush <= 0 {
		cfg.Flush = DefaultFlush
	}
	cfg.Flush = min(cfg.Flush, maxFlush)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Log{
		cfg: cfg, format: parsed, ring: newRing(cfg.Ring), wake: make(chan struct{}, 1),
		view: view{secrets: mask.New(cfg.Secrets)}, pending: make([]byte, 0, batch+8<<10),
	}, nil
}

// Headers are the names of the request headers that Put asks for, beside Referer
// and User-Agent.
func (l *Log) Headers() []string { return slices.Clone(l.format.headers) }

// Put takes an entry. It copies what it needs, allocates nothing and never
// blocks; it reports false if the entry was dropped. A nil Log takes nothing and
// says true.
func (l *Log) Put(e *Entry) bool {
	if l == nil {
		return true
	}
	if l.ended.Load() {
		l.count.dropped.Add(1)
		return false
	}
	ticket, ok := l.ring.put(e, l.format.headers)
	if !ok {
		l.count.dropped.Add(1)
		return false
	}
	if half := uint64(len(l.ring.slots) / 2); ticket%half == half-1 {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// Counters returns the counters at this moment.
func (l *Log) Counters() Counters {
	return Counters{Written: l.count.written.Load(), Dropped: l.count.dropped.Load(), Lost: l.count.lost.Load()}
}

// Run writes until ctx ends, and then what has been taken by that time. It
// returns nil.
func (l *Log) Run(ctx context.Context) error {
	ticker := time.NewTicker(l.cfg.Flush)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			l.ended.Store(true)
			l.collect()
			l.flush()
			return nil
		case <-l.wake:
			l.collect()
		case <-ticker.C:
			l.collect()
			l.flush()
		}
	}
}

// collect turns all entries of the ring into lines.
func (l *Log) collect() {
	for l.ring.take(l.render) {
		if len(l.pending) >= batch {
			l.flush()
		}
	}
}

func (l *Log) render(s *slot) {
	l.view.slot = s
	l.pending = l.format.line(l.pending, &l.view)
	l.lines++
}

// flush writes what is pending. If it cannot be written it is lost: to keep it
// would be to fill the memory, or to stop the log for good.
func (l *Log) flush() {
	if len(l.pending) == 0 {
		return
	}
	_, err := l.cfg.Output.Write(l.pending)
	if err != nil {
		l.count.lost.Add(l.lines)
	} else {
		l.count.written.Add(l.lines)
	}
	l.pending, l.lines = l.pending[:0], 0
	switch {
	case err != nil && !l.failing:
		l.cfg.Logger.Error("access log cannot be written", "err", err)
	case err == nil && l.failing:
		l.cfg.Logger.Info("access log is written again", "lost", l.count.lost.Load())
	}
	l.failing = err != nil
}
