// Package process runs one child process and keeps what people ask about it: is
// it running, what did it last say, how much memory is its own.
//
// Each process leads a process group of its own; signals go to the group, and
// what is left of the group is killed when its leader has exited.
package process

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"time"
)

// Starter starts a command somewhere: in a node, or right here.
type Starter interface {
	Start(cmd *exec.Cmd) error
}

// Spec says what to run. Standard input is empty; standard output and error go to
// LogFile.
type Spec struct {
	Name    string   // for people, in errors
	Path    string   // the program
	Args    []string // without the program's own name
	Env     []string // the whole environment, as in os/exec
	Dir     string
	LogFile string // appended to; moved to LogFile.1 at 10 MB; empty keeps only the tail in memory
}

// State is what became of a process so far.
type State struct {
	Running  bool      `json:"running"`
	Stopped  bool      `json:"stopped"`          // running, but halted by SIGSTOP
	ExitCode int       `json:"exit_code"`        // of the newest exit; -1 when a signal ended it
	Signal   string    `json:"signal,omitempty"` // what ended it
	Started  time.Time `json:"started"`
	Exited   time.Time `json:"exited,omitzero"` // zero while it runs
	Restarts int       `json:"restarts"`
}

// Process is a supervised process. Its methods may be called by several
// goroutines at once.
type Process struct{}

// Start starts spec through starter.
func Start(ctx context.Context, starter Starter, spec Spec) (*Process, error) {
	return nil, errors.New("not implemented")
}

// PID returns the process ID of the newest start.
func (p *Process) PID() int { return 0 }

// State returns the present state.
func (p *Process) State() State { return State{} }

// Signal sends a signal to the process group.
func (p *Process) Signal(signal os.Signal) error { return nil }

// Stop sends SIGTERM, and SIGKILL when grace has passed.
func (p *Process) Stop(ctx context.Context, grace time.Duration) error { return nil }

// Kill sends SIGKILL and waits.
func (p *Process) Kill(ctx context.Context) error { return nil }

// Restart stops the process if it runs and starts it again.
func (p *Process) Restart(ctx context.Context) error { return nil }

// Done is closed when the newest start has exited.
func (p *Process) Done() <-chan struct{} { return nil }

// Tail returns the last n lines that the process wrote.
func (p *Process) Tail(n int) []string { return nil }

// Memory returns the proportional set size in bytes.
func (p *Process) Memory() (uint64, error) { return 0, nil }

// Reap ends zombies that nobody waits for, until ctx ends. PID 1 needs it.
func Reap(ctx context.Context, logger *slog.Logger) error { return nil }
