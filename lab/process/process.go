// Package process runs one child process and keeps what people ask about it: is
// it running, what did it last say, how much memory is its own.
//
// Each process leads a process group of its own; signals go to the group, and
// what is left of the group is killed when its leader has exited. One goroutine
// waits for each process that runs; it ends when the process does.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what a process does after it was told to end, or after it ended.
const (
	killWait    = 10 * time.Second // for SIGKILL to take effect
	outputWait  = time.Second      // for output that a daemonized grandchild still holds
	restartStop = 10 * time.Second // the grace that Restart gives
)

// Starter starts a command somewhere: in a node, or right here.
type Starter interface {
	Start(cmd *exec.Cmd) error
}

// Here starts commands as they are, in the calling process's own surroundings.
type Here struct{}

// Start calls cmd.Start.
func (Here) Start(cmd *exec.Cmd) error { return cmd.Start() }

// Spec says what to run. Standard input is empty; standard output and error go to
// LogFile.
type Spec struct {
	Name    string   // for people, in errors
	Path    string   // the program
	Args    []string // without the program's own name
	Env     []string // the whole environment, as in os/exec
	Dir     string
	LogFile string // appended to, 0600; moved to LogFile.1 at 10 MB; empty keeps only the tail in memory
	// Nice is the process's share of busy processors, -20 (most) to 19; 0 is the
	// usual one. A process that may not have more goes without.
	Nice int
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
type Process struct {
	spec    Spec
	starter Starter
	output  *output

	changing sync.Mutex // held while the process is stopped and started anew

	mu    sync.Mutex
	pid   int
	state State
	done  chan struct{}
}

// Start starts spec through starter. ctx bounds the start alone: the process runs
// until it is stopped or exits.
func Start(ctx context.Context, starter Starter, spec Spec) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	out, err := openOutput(spec.LogFile)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	p := &Process{spec: spec, starter: starter, output: out}
	if err := p.start(); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return p, nil
}

func (p *Process) start() error {
	if err := p.output.open(); err != nil {
		return fmt.Errorf("start %s: %w", p.spec.Name, err)
	}
	cmd := exec.Command(p.spec.Path, p.spec.Args...)
	cmd.Env = p.spec.Env
	cmd.Dir = p.spec.Dir
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.WaitDelay = outputWait
	// A session is a group, and more: Linux shares the processors out by session
	// first (sched_autogroup). In one session with all others an agent that needs
	// next to nothing waits behind every mongod; on a machine of its own it would not.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := p.starter.Start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", p.spec.Name, err)
	}
	if p.spec.Nice != 0 {
		_ = setNice(cmd.Process.Pid, p.spec.Nice) // not allowed everywhere, and needed nowhere
	}
	done := make(chan struct{})
	p.mu.Lock()
	p.pid = cmd.Process.Pid
	p.done = done
	p.state = State{Running: true, Started: time.Now(), Restarts: p.state.Restarts}
	p.mu.Unlock()
	go p.wait(cmd, done)
	return nil
}

// wait waits for the process's end. The process is not reaped before the rest of
// its group was killed: until then its ID cannot be given to anyone else.
func (p *Process) wait(cmd *exec.Cmd, done chan<- struct{}) {
	defer close(done)
	pid := cmd.Process.Pid
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	_ = unix.Kill(-pid, unix.SIGKILL)
	p.state.Running = false
	p.state.Exited = time.Now()
	p.mu.Unlock()
	_ = cmd.Wait() // what it says is in ProcessState
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.ExitCode = -1
	if cmd.ProcessState != nil {
		p.state.ExitCode = cmd.ProcessState.ExitCode()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			p.state.Signal = unix.SignalName(status.Signal())
		}
	}
	_ = p.output.Close()
}

// PID returns the process ID of the newest start.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// State returns the present state.
func (p *Process) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	state := p.state
	if state.Running {
		state.Stopped = halted(p.pid)
	}
	return state
}

// Done is closed when the newest start has exited and its state is known.
func (p *Process) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// Signal sends a signal to the process group. The error is os.ErrProcessDone when
// the process has exited.
func (p *Process) Signal(signal os.Signal) error {
	number, ok := signal.(syscall.Signal)
	if !ok {
		return fmt.Errorf("signal %s: %v is no signal of this system", p.spec.Name, signal)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.state.Running {
		return fmt.Errorf("signal %s: %w", p.spec.Name, os.ErrProcessDone)
	}
	if err := unix.Kill(-p.pid, number); err != nil {
		return fmt.Errorf("signal %s: %w", p.spec.Name, err)
	}
	return nil
}

// Stop sends SIGTERM, and SIGKILL when grace has passed or ctx has ended. A halted
// process is made to go on, so that it sees the signal. Stop returns when the
// process has exited; stopping one that has exited is no error.
func (p *Process) Stop(ctx context.Context, grace time.Duration) error {
	p.changing.Lock()
	defer p.changing.Unlock()
	return p.stop(ctx, grace)
}

func (p *Process) stop(ctx context.Context, grace time.Duration) error {
	done := p.Done()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGCONT} {
		if err := p.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return p.kill(context.WithoutCancel(ctx), done)
}

// Kill sends SIGKILL and returns when the process has exited, or ctx has ended.
func (p *Process) Kill(ctx context.Context) error { return p.kill(ctx, p.Done()) }

func (p *Process) kill(ctx context.Context, done <-chan struct{}) error {
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(killWait)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("kill %s: %w", p.spec.Name, context.Cause(ctx))
	case <-timer.C:
		return fmt.Errorf("kill %s: pid %d is still there after %v", p.spec.Name, p.PID(), killWait)
	}
}

// Restart stops the process if it runs and starts it again. When ctx ends before
// the process has stopped, it is killed and not started.
func (p *Process) Restart(ctx context.Context) error {
	return p.RestartAfter(ctx, func() error { return nil })
}

// RestartAfter is Restart with something to do while the process is down. When
// that fails, the process is started all the same and the error is returned.
func (p *Process) RestartAfter(ctx context.Context, between func() error) error {
	p.changing.Lock()
	defer p.changing.Unlock()
	if err := p.stop(ctx, restartStop); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("restart %s: %w", p.spec.Name, err)
	}
	failed := between()
	if err := p.start(); err != nil {
		return errors.Join(failed, err)
	}
	p.mu.Lock()
	p.state.Restarts++
	p.mu.Unlock()
	return failed
}

// Tail returns the last n lines that the process wrote, oldest first.
func (p *Process) Tail(n int) []string { return p.output.tail(n) }

// Memory returns the process's proportional set size in bytes: its own pages, and
// its share of those that it shares.
func (p *Process) Memory() (uint64, error) { return Memory(p.PID()) }
