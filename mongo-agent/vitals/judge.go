package vitals

import (
	"fmt"
	"time"
)

// State is what is known about a process.
type State uint8

// The states. Only Stopped, Disk and Gone are bad news; Unknown is none.
const (
	// Unknown: the process cannot be seen; the reason says why.
	Unknown State = iota
	// Running: it exists and is neither of the following. It says nothing about
	// whether the process answers.
	Running
	// Stopped: it is stopped by a signal or a debugger and executes nothing.
	Stopped
	// Disk: one of its threads has been in one uninterruptible wait for longer
	// than the limit, which as a rule is for a disk.
	Disk
	// Gone: it was seen and has ended, and no other has taken its place.
	Gone
)

// String returns the state in lower case.
func (s State) String() string {
	switch s {
	case Running:
		return "running"
	case Stopped:
		return "stopped"
	case Disk:
		return "disk"
	case Gone:
		return "gone"
	default:
		return "unknown"
	}
}

// MarshalText writes what String returns.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// tracedReadings is how many readings in a row must find the process stopped by
// a debugger: one that follows system calls stops it for moments, all the time.
const tracedReadings = 2

// thread is a thread that was found in an uninterruptible wait.
type thread struct {
	ID   int
	Name string
	// Switches grows when the thread runs: the same number twice is one wait.
	Switches uint64
}

// wait is an uninterruptible wait that may still last.
type wait struct {
	thread thread
	since  time.Time
}

// judge turns readings of one process into its state.
type judge struct {
	limit  time.Duration // of one uninterruptible wait
	letter byte
	traced int // readings in a row with the letter t
	waits  map[int]wait
	now    time.Time
}

// read takes the state letter of the process.
func (j *judge) read(now time.Time, letter byte) {
	j.now, j.letter = now, letter
	if letter == 't' {
		j.traced++
	} else {
		j.traced = 0
	}
}

// scanned takes all threads that are in an uninterruptible wait. A wait counts
// from the first scan that found it.
func (j *judge) scanned(now time.Time, waiting []thread) {
	j.now = now
	waits := make(map[int]wait, len(waiting))
	for _, t := range waiting {
		w, ok := j.waits[t.ID]
		if !ok || w.thread.Switches != t.Switches {
			w = wait{thread: t, since: now}
		}
		waits[t.ID] = w
	}
	j.waits = waits
}

// state returns the verdict on all that was read, and its reason.
func (j *judge) state() (State, string) {
	switch {
	case j.letter == 'Z' || j.letter == 'X' || j.letter == 'x':
		return Gone, "the process has ended"
	case j.letter == 'T':
		return Stopped, "the process is stopped by a signal (state T)"
	case j.traced >= tracedReadings:
		return Stopped, "the process is stopped by a debugger (state t)"
	}
	var longest wait
	for _, w := range j.waits {
		if longest.since.IsZero() || w.since.Before(longest.since) {
			longest = w
		}
	}
	if lasted := j.now.Sub(longest.since); !longest.since.IsZero() && lasted >= j.limit {
		return Disk, fmt.Sprintf("thread %d (%s) has been in one uninterruptible wait (state D) for %v or longer",
			longest.thread.ID, longest.thread.Name, lasted.Round(time.Millisecond))
	}
	return Running, ""
}
