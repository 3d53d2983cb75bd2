package process

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// unclaimed is how long a zombie child is left to whoever may wait for it. Whoever
// does wait is woken by the kernel at once, so what is left after this was
// orphaned and handed to PID 1.
const unclaimed = 2 * time.Second

// Reap ends zombies that nobody waits for, until ctx ends; it returns nil. PID 1
// needs it, because every orphan of its PID namespace becomes its child. It does
// not take children from os/exec: an orphan and a child look alike to PID 1, but
// only an orphan stays a zombie, so it waits a while before it acts. A caller
// that starts a command must therefore wait for it without delay.
func Reap(ctx context.Context, logger *slog.Logger) error {
	exits := make(chan os.Signal, 1)
	signal.Notify(exits, unix.SIGCHLD)
	defer signal.Stop(exits)
	timer := time.NewTimer(0)
	defer timer.Stop()
	reaper := reaper{self: os.Getpid(), seen: map[zombie]time.Time{}}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-exits:
		case <-timer.C:
		}
		zombies, err := reaper.zombies()
		if err != nil {
			return fmt.Errorf("reap orphans: %w", err)
		}
		for _, z := range reaper.due(zombies, time.Now()) {
			var status unix.WaitStatus
			if pid, err := unix.Wait4(z.pid, &status, unix.WNOHANG, nil); err == nil && pid == z.pid {
				logger.Debug("reaped an orphan", "pid", pid, "exit_code", status.ExitStatus())
			}
		}
		if len(reaper.seen) > 0 {
			timer.Reset(unclaimed / 2)
		}
	}
}

// zombie names a process that has exited and that nobody has waited for.
type zombie struct {
	pid     int
	started uint64
}

// reaper knows since when each zombie is there.
type reaper struct {
	self int
	seen map[zombie]time.Time
}

// zombies lists the zombie children of this process.
func (r *reaper) zombies() ([]zombie, error) {
	directory, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer directory.Close()
	names, err := directory.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var found []zombie
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		s, err := readStatus(pid)
		if err == nil && s.state == 'Z' && s.parent == r.self {
			found = append(found, zombie{pid: pid, started: s.started})
		}
	}
	return found, nil
}

// due returns the zombies that have been there long enough, and forgets those
// that are gone or due.
func (r *reaper) due(zombies []zombie, now time.Time) []zombie {
	var due []zombie
	seen := make(map[zombie]time.Time, len(zombies))
	for _, z := range zombies {
		first, ok := r.seen[z]
		switch {
		case !ok:
			seen[z] = now
		case now.Sub(first) >= unclaimed:
			due = append(due, z)
		default:
			seen[z] = first
		}
	}
	r.seen = seen
	return due
}
