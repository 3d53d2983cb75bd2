package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// errMissing means that this machine lacks something without which nothing can be
// measured.
var errMissing = errors.New("missing on this machine")

// command is a program to start.
type command struct {
	// name is what messages and the log file are called.
	name, path string
	args       []string
	// environment is what it has beside ours.
	environment []string
	// folder receives the log file.
	folder string
	stdin  io.Reader
	stdout io.Writer // nil: the log file
}

// process is a running program with all its children. Whoever starts it calls
// stop.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // written before done is closed
}

// start runs a program in a process group of its own, so that a Ctrl-C in the
// terminal reaches only us and the children of the program end with it. The kernel
// kills it if we are killed.
func start(c command) (*process, error) {
	p := &process{name: c.name, log: filepath.Join(c.folder, c.name+".log"), done: make(chan struct{})}
	output, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = output.Close() }()
	p.cmd = exec.Command(c.path, c.args...)
	p.cmd.Dir, p.cmd.Stdin = c.folder, c.stdin
	p.cmd.Env = append(os.Environ(), c.environment...)
	p.cmd.Stdout, p.cmd.Stderr = output, output
	if c.stdout != nil {
		p.cmd.Stdout = c.stdout
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// gone reports whether the program has ended.
func (p *process) gone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop asks the program to end, waits, and kills what is left of its group. A
// second stop does nothing.
func (p *process) stop(grace time.Duration) {
	if p == nil {
		return
	}
	if !p.gone() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-p.done:
		case <-timer.C:
		}
	}
	// Children outlive a parent that was killed.
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL)
	<-p.done
}

// pause holds the program where it is, resume lets it go on.
func (p *process) pause()  { _ = syscall.Kill(-p.pid(), syscall.SIGSTOP) }
func (p *process) resume() { _ = syscall.Kill(-p.pid(), syscall.SIGCONT) }

// wait returns when the program has ended, and kills it when ctx ends first.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
	case <-ctx.Done():
		p.stop(time.Second)
		return ctx.Err()
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w: %s", p.name, p.err, p.tail())
	}
	return nil
}

// tail returns the end of what the program said, on one line.
func (p *process) tail() string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	const most = 300
	text := strings.Join(strings.Fields(string(content)), " ")
	if len(text) > most {
		text = "… " + text[len(text)-most:]
	}
	return text
}

// await polls a condition until it holds, ctx ends or the patience is over. The
// condition's last error is the reason.
func await(ctx context.Context, patience time.Duration, what string, holds func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	reason := errors.New("not asked in time")
	for {
		err := holds(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() == nil:
			// Once the time is over, the error says only that.
			reason = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %v: %w", what, patience, reason)
		case <-ticker.C:
		}
	}
}

// find returns the path of a program: from the environment variable, the folders,
// PATH, then the folders of system programs, which are not on everybody's PATH.
func find(name, variable string, folders ...string) (string, error) {
	if path := os.Getenv(variable); path != "" {
		return exec.LookPath(path)
	}
	for _, folder := range folders {
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			return path, nil
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, folder := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not on PATH", name)
}

// cache is the folder that tools/get and tools/peers/get fill.
func cache(elements ...string) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder: %w; set XDG_CACHE_HOME or HOME", err)
	}
	return filepath.Join(append([]string{base, "sluice"}, elements...)...), nil
}
