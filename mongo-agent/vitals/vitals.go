// Package vitals follows the state of the local mongod process: does it exist,
// is it stopped, does it hang on a disk. A mongod that is stopped (SIGSTOP, a
// debugger) keeps its port open and its connections up and answers nobody; by
// the clock alone that takes as long to know as the longest pause that is
// forgiven. The kernel knows it at once.
//
// What is frozen and what is only stalled:
//   - Stopped is frozen: state T of the leader thread at one reading, or t
//     (debugger) at two in a row. A signal stops all threads together.
//   - Disk is a part of the process that stands still. D is normal for moments,
//     so a thread must be found in one and the same uninterruptible wait over
//     Config.DiskLimit: in state D at each scan, and not scheduled once between
//     them. The other threads may run: mongod with a full or a dead disk often
//     still answers hello.
//   - Everything else that does not answer is not seen here: CPU starvation, an
//     endless loop, a lock, SIGSTOP of another machine, the cgroup freezer
//     (docker pause; the kernel shows S). The clock must find those.
//
// The process is the one that holds the listening socket of an address in the
// own network namespace. It must be visible: same user (or root), same PID
// namespace or one below, no hidepid. Otherwise the state is Unknown, and so it
// is on any doubt: nobody may be cut off because this package cannot see.
package vitals

import (
	"context"
	"errors"
	"time"
)

// Defaults of Config. On a small virtual machine each reading costs about 0.1 ms
// of processor time, nearly all of it for being woken up.
const (
	DefaultInterval     = 40 * time.Millisecond
	DefaultScanInterval = time.Second
	DefaultDiskLimit    = 2 * time.Second
)

const (
	// findPause is the time between two looks for a process that is not there,
	// and blindPause that between two looks for one that cannot be seen, which
	// cost a look at each connection of the machine and at each descriptor of
	// each process.
	findPause  = 100 * time.Millisecond
	blindPause = 10 * time.Second
	// dialTimeout is for a listener whose queue is full, as that of a stopped
	// process may be.
	dialTimeout = 100 * time.Millisecond
)

// Event is a change of the state.
type Event struct {
	// At is when it was read.
	At time.Time
	// PID is the process, 0 if there is none to be seen; for Gone it is the one
	// that has ended.
	PID   int
	State State
	// Reason explains every state but Running.
	Reason string
}

// Config says what to watch.
type Config struct {
	// Address is mongod's "host:port".
	Address string
	// Interval is the time between two readings of the leader's state, and
	// ScanInterval that between two looks at all threads; 0 is the default.
	Interval, ScanInterval time.Duration
	// DiskLimit is how long one uninterruptible wait may last; 0 is the default.
	// It is noticed up to one ScanInterval later.
	DiskLimit time.Duration
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// Watch watches one address.
type Watch struct {
	cfg  Config
	last Event
	// followed is the inode of the last process's listener, and blind that of a
	// listener whose process cannot be seen.
	followed, blind uint64
}

// errEnding means that the listener of a process that has ended still exists,
// for the moment that its end takes.
var errEnding = errors.New("the process is ending")

// New returns a watch; nothing happens before Run.
func New(cfg Config) *Watch {
	cfg.Interval = orDefault(cfg.Interval, DefaultInterval)
	cfg.ScanInterval = orDefault(cfg.ScanInterval, DefaultScanInterval)
	cfg.DiskLimit = orDefault(cfg.DiskLimit, DefaultDiskLimit)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Watch{cfg: cfg}
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}

// Run watches until ctx ends and returns its error, up to one Interval later. It sends the first state and
// each change to events, which somebody must receive from. It finds a process
// that starts later, and the next one after each end. Call it once.
func (w *Watch) Run(ctx context.Context, events chan<- Event) error {
	for ctx.Err() == nil {
		p, pause, err := w.find(ctx)
		if err != nil {
			w.lost(ctx, events, err)
			sleep(ctx, pause)
			continue
		}
		w.follow(ctx, p, events)
		p.close()
		// The listener outlives its process for a moment, and to look who holds it
		// costs 13 ms of a processor just when a successor needs it.
		sleep(ctx, findPause)
	}
	return ctx.Err()
}

// find looks for the process once. The pause is what to wait after an error.
func (w *Watch) find(ctx context.Context) (*process, time.Duration, error) {
	address, err := resolve(ctx, w.cfg.Address)
	if err != nil {
		return nil, blindPause, err
	}
	// The kernel's table takes 13 ms to read, a refused connection 0.1 ms.
	if err := dial(ctx, address); err != nil {
		return nil, findPause, err
	}
	inode, err := listening(address)
	if err != nil {
		return nil, findPause, err
	}
	p, err := open(inode)
	if err != nil && inode == w.followed && w.last.State == Gone {
		return nil, findPause, errEnding
	}
	if err != nil {
		pause := findPause
		if w.blind == inode {
			pause = blindPause
		}
		w.blind = inode
		return nil, pause, err
	}
	w.followed, w.blind = inode, 0
	return p, 0, nil
}

// lost reports that no process is there or visible. That nothing listens is no
// news about a process that has ended, and none about one that never was.
func (w *Watch) lost(ctx context.Context, events chan<- Event, err error) {
	if w.last.State == Gone && (errors.Is(err, errNotListening) || errors.Is(err, errEnding)) {
		return
	}
	w.emit(ctx, events, Event{At: w.cfg.Now(), State: Unknown, Reason: err.Error()})
}

// follow watches one process until it ends.
func (w *Watch) follow(ctx context.Context, p *process, events chan<- Event) {
	j := judge{limit: w.cfg.DiskLimit}
	scan := w.cfg.Now().Add(w.cfg.ScanInterval)
	for ctx.Err() == nil {
		now := w.cfg.Now()
		letter, err := p.letter()
		if err != nil {
			letter = 'X'
		}
		j.read(now, letter)
		if !now.Before(scan) {
			scan = now.Add(w.cfg.ScanInterval)
			if waiting, err := p.waiting(); err == nil {
				j.scanned(now, waiting)
			}
		}
		state, reason := j.state()
		w.emit(ctx, events, Event{At: now, PID: p.pid, State: state, Reason: reason})
		if state == Gone {
			return
		}
		if p.wait(w.cfg.Interval) {
			w.emit(ctx, events, Event{At: w.cfg.Now(), PID: p.pid, State: Gone, Reason: "the process has ended"})
			return
		}
	}
}

// emit sends an event that differs from the last one. A reason may count time,
// so for a visible process another reason alone is no change.
func (w *Watch) emit(ctx context.Context, events chan<- Event, e Event) {
	same := e.State == w.last.State && e.PID == w.last.PID
	if same && (e.State != Unknown || e.Reason == w.last.Reason) {
		return
	}
	select {
	case events <- e:
		w.last = e
	case <-ctx.Done():
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
