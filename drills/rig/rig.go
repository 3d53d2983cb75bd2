// Package rig runs a lab for a rehearsal, as a person would: through the sluice
// program, whose answers it reads. One Rig is one lab; its methods may be called by
// several goroutines at once.
package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sluice/lab"
	"sluice/lab/disk"
	"sluice/lab/engine"
)

// Config says which lab to run.
type Config struct {
	// Sluice is the program; web, mongo-agent and gateway lie beside it.
	Sluice string
	// Self is a program that answers GetCommand with Get: it looks at pages from
	// inside a node.
	Self string
	// Project is the folder with datacenters/ and intentions/.
	Project string
	// State is the lab's state folder.
	State string
	// Offset is added to the host's ports.
	Offset int
	// Profile is passed to up; empty passes none.
	Profile string
}

// Rig is one lab.
type Rig struct {
	cfg    Config
	client *lab.Client
}

// Up starts the lab and waits for it.
func Up(ctx context.Context, cfg Config) (*Rig, error) {
	r, err := Attach(cfg)
	if err != nil {
		return nil, err
	}
	args := []string{"up", "--engine", "netns", "--dir", cfg.Project, "--port-offset", fmt.Sprint(cfg.Offset)}
	if cfg.Profile != "" {
		args = append(args, "--profile", cfg.Profile)
	}
	if _, err := r.Run(ctx, args...); err != nil {
		return nil, errors.Join(err, r.Down())
	}
	return r, nil
}

// Attach uses a lab that somebody else started, and ends.
func Attach(cfg Config) (*Rig, error) {
	client, err := lab.NewClient(cfg.State)
	if err != nil {
		return nil, err
	}
	return &Rig{cfg: cfg, client: client}, nil
}

// downTimeout bounds the end of a lab.
const downTimeout = 2 * time.Minute

// Down ends the lab and deletes its state.
func (r *Rig) Down() error {
	ctx, cancel := context.WithTimeout(context.Background(), downTimeout)
	defer cancel()
	_, err := r.Run(ctx, "down", "--purge")
	return err
}

// ExitError is a run of the program that did not end with 0.
type ExitError struct {
	Args []string
	Code int
	// Said is the end of what it said.
	Said string
}

// Error names the command, the code and what was said.
func (e *ExitError) Error() string {
	return fmt.Sprintf("sluice %s: exit code %d: %s", strings.Join(e.Args, " "), e.Code, e.Said)
}

// Run runs the program for this lab and returns its output. Any exit code but 0 is
// an *ExitError.
func (r *Rig) Run(ctx context.Context, args ...string) ([]byte, error) {
	var out, said bytes.Buffer
	command := r.command(ctx, args...)
	command.Stdout, command.Stderr = &out, &said
	err := command.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out.Bytes(), &ExitError{Args: args, Code: exit.ExitCode(), Said: lastLines(said.String(), 6)}
	}
	if err != nil {
		return nil, fmt.Errorf("run sluice %s: %w", strings.Join(args, " "), err)
	}
	return out.Bytes(), nil
}

func (r *Rig) command(ctx context.Context, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, r.cfg.Sluice, append([]string{"--state", r.cfg.State}, args...)...)
	command.Env = append(os.Environ(), "CI=true")
	// An interrupt is this program's to handle, not its children's.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGINT) }
	command.WaitDelay = 10 * time.Second
	return command
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}

// Do does one step of a rehearsal: "wait 20s", "healthy" (until the set is), or a
// command of sluice. Faults go straight to the lab, so that they happen when they
// are said.
func (r *Rig) Do(ctx context.Context, step string) error {
	words := strings.Fields(step)
	switch {
	case len(words) == 0:
		return errors.New("an empty step")
	case words[0] == "wait" && len(words) == 2:
		d, err := time.ParseDuration(words[1])
		if err != nil {
			return fmt.Errorf("step %q: %w", step, err)
		}
		return pause(ctx, d)
	case words[0] == "healthy" && len(words) == 1:
		_, err := r.AwaitHealthy(ctx, time.Minute)
		return err
	}
	if request, ok := faultOf(words); ok {
		_, err := r.client.Fault(ctx, request)
		if err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
		return nil
	}
	_, err := r.Run(ctx, words...)
	return err
}

// faultOf is the request for a step of the plain faults.
func faultOf(words []string) (lab.FaultRequest, bool) {
	request := lab.FaultRequest{}
	if len(words) < 3 || words[0] != "fault" {
		return request, false
	}
	request.Action, request.Target = lab.FaultAction(words[1]), words[2]
	switch request.Action {
	case lab.FaultKill, lab.FaultTerm, lab.FaultStop, lab.FaultCont, lab.FaultRestart:
		return request, len(words) == 3
	case lab.FaultCut:
		if len(words) == 5 && words[3] == "--direction" {
			request.Direction = engine.Direction(words[4])
			return request, true
		}
		return request, len(words) == 3
	case lab.FaultDisk:
		if len(words) == 4 {
			request.Ailment = disk.Ailment(words[3])
		}
		return request, len(words) == 4
	case lab.FaultHeal:
		if request.Target == "--all" {
			request.Target = ""
		}
		return request, len(words) == 3
	}
	return request, false
}

// Status returns the lab's status.
func (r *Rig) Status(ctx context.Context) (lab.Status, error) { return r.client.Status(ctx) }

// pause waits for d, or for the end of ctx, which is an error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// inside runs a program inside a node and returns its output.
func (r *Rig) inside(ctx context.Context, node string, command ...string) ([]byte, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	type answer struct {
		text []byte
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		text, err := io.ReadAll(out)
		answers <- answer{text, err}
	}()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	defer null.Close()
	code, err := r.client.Exec(ctx, lab.ExecRequest{Node: node, Command: command, Dir: "/"}, [3]*os.File{null, in, null}, nil)
	_ = in.Close()
	read := <-answers
	if err := errors.Join(err, read.err); err != nil {
		return nil, err
	}
	if code != 0 {
		return nil, fmt.Errorf("%s on %s: exit code %d", filepath.Base(command[0]), node, code)
	}
	return read.text, nil
}

// page reads a JSON page of a node's loopback.
func (r *Rig) page(ctx context.Context, node, url string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	text, err := r.inside(ctx, node, r.cfg.Self, GetCommand, url)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read %s of %s: %w", url, node, err)
	}
	return nil
}
