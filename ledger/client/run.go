// Package client writes a ledger: it sends writes at a fixed rate to a replica
// set, as web does, and keeps what it was told; and it reads back what is there
// in the end.
//
// The rate is that of the moments in which writes fall due. A write that cannot
// start because too many are under way waits for its turn, and its delay counts
// from the moment in which it fell due: a set that does not answer slows down
// nothing but the answers.
package client

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"sluice/ledger"
)

// Answer is what a write came to.
type Answer struct {
	// Kind is ledger.Acknowledged, Refused, Unknown or Duplicate.
	Kind ledger.Kind
	// Attempts is how many commands were sent.
	Attempts int
	Text     string
}

// Store is where the writes go. Its methods may be called by several goroutines
// at once and end soon after ctx does.
type Store interface {
	// Write stores the document with that identity.
	Write(ctx context.Context, document string) Answer
	// Look returns ledger.Found, ledger.Missing, or why there was no answer.
	Look(ctx context.Context, document string) string
}

// Config says what to run.
type Config struct {
	// Header describes the run; its Started must carry the monotonic clock.
	Header ledger.Header
	// Concurrency bounds the writes under way.
	Concurrency int
	// Looks is how many reads start each second; 0 reads nothing.
	Looks float64
	// Progress is called once a second, by one goroutine; nil is allowed.
	Progress func(Progress)
}

// Progress is how a run goes.
type Progress struct {
	Elapsed      time.Duration
	Acknowledged int64
	// Others are the writes that were answered otherwise.
	Others   int64
	UnderWay int64
	// Silence is the longest time without an acknowledged write so far.
	Silence time.Duration
}

// grace is how long an interrupted run waits for the writes that are under way.
const grace = 2 * time.Second

// run is the state of one run.
type run struct {
	cfg    Config
	store  Store
	writer *ledger.Writer

	slots chan struct{}
	wait  sync.WaitGroup
	fail  context.CancelCauseFunc

	acknowledged, others, underWay atomic.Int64

	mu sync.Mutex
	// newest is the write that was acknowledged last; some is whether there is one.
	newest  uint64
	some    bool
	lastAck time.Duration
	silence time.Duration
}

// Run writes until the duration is over or ctx ends, waits for the writes under
// way, and ends the ledger. That ctx ended is no error. It returns when all that
// it started has ended.
func Run(ctx context.Context, cfg Config, store Store, writer *ledger.Writer) (Progress, error) {
	r := &run{cfg: cfg, store: store, writer: writer, slots: make(chan struct{}, cfg.Concurrency)}
	operations, fail := context.WithCancelCause(context.WithoutCancel(ctx))
	defer fail(nil)
	r.fail = fail
	looking, stopLooking := context.WithCancel(operations)
	var beside sync.WaitGroup
	beside.Go(func() { r.looks(looking) })
	beside.Go(func() { r.progress(looking) })

	r.pace(ctx, operations)
	end := ledger.Complete
	if ctx.Err() != nil {
		end = ledger.Interrupted
		stop := time.AfterFunc(grace, func() { fail(context.Canceled) })
		defer stop.Stop()
	}
	stopLooking()
	r.wait.Wait()
	beside.Wait()
	if cause := context.Cause(operations); cause != nil && ctx.Err() == nil {
		return r.state(), cause
	}
	err := writer.Add(ledger.Record{Kind: ledger.End, At: r.now(), Text: end})
	return r.state(), err
}

func (r *run) now() time.Duration { return time.Since(r.cfg.Header.Started) }

// pace starts each write when it falls due, or as soon after that as there is a
// slot. Those that fell due are started even when the duration is over.
func (r *run) pace(ctx, operations context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for seq := uint64(0); ; seq++ {
		due := time.Duration(math.Round(float64(seq) * float64(time.Second) / r.cfg.Header.Rate))
		if r.cfg.Header.Duration > 0 && due >= r.cfg.Header.Duration {
			return
		}
		if early := due - r.now(); early > 0 {
			timer.Reset(early)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			case <-operations.Done():
				return
			}
		}
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return
		case <-operations.Done():
			return
		}
		if ctx.Err() != nil || operations.Err() != nil {
			return
		}
		r.wait.Go(func() {
			defer func() { <-r.slots }()
			r.write(operations, seq, due)
		})
	}
}

func (r *run) write(ctx context.Context, seq uint64, due time.Duration) {
	r.underWay.Add(1)
	defer r.underWay.Add(-1)
	if !r.add(ledger.Record{Kind: ledger.Sent, Seq: seq, From: due, At: r.now()}) {
		return
	}
	answer := r.store.Write(ctx, r.cfg.Header.Document(seq))
	at := r.now()
	if !r.add(ledger.Record{Kind: answer.Kind, Seq: seq, At: at, Attempts: answer.Attempts, Text: answer.Text}) {
		return
	}
	if answer.Kind != ledger.Acknowledged {
		r.others.Add(1)
		return
	}
	r.acknowledged.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.newest, r.some = seq, true
	r.silence = max(r.silence, at-r.lastAck)
	r.lastAck = max(r.lastAck, at)
}

// add writes a record; a ledger that cannot be written ends the run.
func (r *run) add(record ledger.Record) bool {
	err := r.writer.Add(record)
	if err != nil {
		r.fail(err)
	}
	return err == nil
}

// looks reads, at its own rate, the write that was acknowledged last.
func (r *run) looks(ctx context.Context) {
	if r.cfg.Looks <= 0 {
		return
	}
	ticker := time.NewTicker(time.Duration(float64(time.Second) / r.cfg.Looks))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		newest, some := r.newest, r.some
		r.mu.Unlock()
		if !some {
			continue
		}
		started := r.now()
		text := r.store.Look(ctx, r.cfg.Header.Document(newest))
		if ctx.Err() != nil {
			return
		}
		r.add(ledger.Record{Kind: ledger.Looked, Seq: newest, From: started, At: r.now(), Text: text})
	}
}

func (r *run) progress(ctx context.Context) {
	if r.cfg.Progress == nil {
		return
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.cfg.Progress(r.state())
		case <-ctx.Done():
			return
		}
	}
}

func (r *run) state() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	return Progress{
		Elapsed: now, Acknowledged: r.acknowledged.Load(), Others: r.others.Load(), UnderWay: r.underWay.Load(),
		Silence: max(r.silence, now-r.lastAck),
	}
}

// String is one line for people.
func (p Progress) String() string {
	return fmt.Sprintf("%5.0f s  acknowledged %d, not acknowledged %d, under way %d, longest silence %d ms",
		p.Elapsed.Seconds(), p.Acknowledged, p.Others, p.UnderWay, p.Silence.Milliseconds())
}
