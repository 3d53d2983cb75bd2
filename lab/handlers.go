package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"sluice/lab/consulconfig"
	"sluice/lab/control"
)

// The operations of the control socket.
const (
	opAwait   = "await"
	opExtend  = "extend"
	opReduce  = "reduce"
	opStatus  = "status"
	opDown    = "down"
	opExec    = "exec"
	opFault   = "fault"
	opEnforce = "enforced"
	opProcess = "processes"
	opCapture = "capture"
	opMongo   = "mongo"
	opSetting = "setting"
)

func (s *Supervisor) handlers() map[string]control.Handler {
	return map[string]control.Handler{
		opAwait:   s.handleAwait,
		opExtend:  s.handleExtend,
		opReduce:  s.handleReduce,
		opStatus:  func(ctx context.Context, call *control.Call) error { return call.Result(s.status(ctx)) },
		opDown:    s.handleDown,
		opExec:    s.handleExec,
		opFault:   s.handleFault,
		opEnforce: s.handleEnforced,
		opProcess: s.handleProcesses,
		opCapture: s.handleCapture,
		opMongo:   s.handleMongo,
		opSetting: s.handleSetting,
	}
}

// fail is an error that carries an exit code and the fix to the command line.
func fail(code int, hint, format string, args ...any) error {
	return &control.Error{Message: fmt.Sprintf(format, args...), Code: code, Hint: hint}
}

// handleAwait tells the way up, from its first step on, until it ends.
func (s *Supervisor) handleAwait(ctx context.Context, call *control.Call) error {
	err := s.journal.follow(ctx, func(event Event) bool {
		if event.State == LabReady || event.State == StepFailed {
			return false
		}
		return call.Progress(event) == nil
	})
	if err != nil {
		return err
	}
	final, _ := s.journal.last()
	return call.Result(final)
}

// handleDown answers and then ends the supervisor; the client sees the socket
// close when all is gone.
func (s *Supervisor) handleDown(_ context.Context, call *control.Call) error {
	err := call.Result(struct{}{})
	s.Stop()
	return err
}

// ExecRequest runs a command inside a node.
type ExecRequest struct {
	Node    string   `json:"node"`
	Command []string `json:"command"`
	// Dir is the caller's working directory.
	Dir string `json:"dir"`
	// Env are the caller's variables that a terminal program needs (TERM, LANG).
	Env []string `json:"env,omitempty"`
}

// ExecResult is how the command ended.
type ExecResult struct {
	ExitCode int `json:"exit_code"`
}

func (s *Supervisor) handleExec(ctx context.Context, call *control.Call) error {
	var request ExecRequest
	if err := call.Decode(&request); err != nil {
		return err
	}
	n, err := s.find(request.Node)
	if err != nil {
		return err
	}
	if len(request.Command) == 0 || len(call.Files) != 3 {
		return fail(2, "sluice exec NODE -- COMMAND ...", "exec wants a command")
	}
	path, err := s.lookPath(request.Command[0])
	if err != nil {
		return fail(127, "", "run %s: %v", request.Command[0], err)
	}
	command := &exec.Cmd{
		Path: path, Args: request.Command, Dir: request.Dir,
		Stdin: call.Files[0], Stdout: call.Files[1], Stderr: call.Files[2],
		Env: append(request.Env,
			"PATH="+s.searchPath(), "HOME="+s.layout.Root(),
			"CONSUL_HTTP_ADDR="+n.consulAddress(),
			"CONSUL_HTTP_TOKEN_FILE="+s.layout.TokenFile(consulconfig.AgentToken(n.node.Name)),
		),
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	if err := n.machine.Start(command); err != nil {
		return fail(126, "", "run %s on %s: %v", request.Command[0], n.node.Name, err)
	}
	return call.Result(ExecResult{ExitCode: superviseExec(ctx, command, call.Signals)})
}

// superviseExec passes signals on to the command's group, ends it when the
// client goes away, and returns its exit code as a shell would give it.
func superviseExec(ctx context.Context, command *exec.Cmd, signals <-chan os.Signal) int {
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	gone := ctx.Done()
	for {
		select {
		case received := <-signals:
			if number, ok := received.(syscall.Signal); ok {
				_ = syscall.Kill(-command.Process.Pid, number)
			}
		case <-gone:
			_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
			gone = nil
		case err := <-ended:
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				return 0
			}
			if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				return 128 + int(status.Signal())
			}
			return exit.ExitCode()
		}
	}
}

// searchPath lets `consul` and `mongod` be typed as they are.
func (s *Supervisor) searchPath() string {
	return filepath.Dir(s.options.Programs.Consul) + ":" + filepath.Dir(s.options.Programs.Web) + ":" + os.Getenv("PATH")
}

func (s *Supervisor) lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(s.searchPath()) {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", errors.New("command not found")
}

// ProcessRef names a process and its log, for `sluice logs`.
type ProcessRef struct {
	Node    string `json:"node"`
	Process string `json:"process"`
	Log     string `json:"log"`
}

func (s *Supervisor) handleProcesses(_ context.Context, call *control.Call) error {
	var refs []ProcessRef
	for _, n := range s.all() {
		for _, name := range n.names() {
			refs = append(refs, ProcessRef{Node: n.node.Name, Process: name, Log: s.layout.Log(n.node.Name, name)})
		}
	}
	return call.Result(refs)
}

// CaptureRequest writes the frames on a node's link to the passed file.
type CaptureRequest struct {
	Node string `json:"node"`
}

func (s *Supervisor) handleCapture(ctx context.Context, call *control.Call) error {
	var request CaptureRequest
	if err := call.Decode(&request); err != nil {
		return err
	}
	n, err := s.find(request.Node)
	if err != nil {
		return err
	}
	if len(call.Files) != 1 {
		return fail(2, "", "capture wants a file")
	}
	if err := n.machine.Capture(ctx, call.Files[0]); err != nil && !errors.Is(err, context.Canceled) {
		return fail(2, "", "capture on %s: %v", n.node.Name, err)
	}
	return call.Result(json.RawMessage(`{}`))
}
