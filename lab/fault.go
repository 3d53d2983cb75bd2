package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"sluice/lab/control"
	"sluice/lab/disk"
	"sluice/lab/engine"
)

// FaultAction is what a fault does.
type FaultAction string

// The faults, by the verbs of the command line.
const (
	FaultKill    FaultAction = "kill"    // SIGKILL; the process stays dead until restart or heal
	FaultTerm    FaultAction = "term"    // SIGTERM, and nothing else; it stays down until restart or heal
	FaultStop    FaultAction = "stop"    // SIGSTOP: alive, silent
	FaultCont    FaultAction = "cont"    // SIGCONT
	FaultRestart FaultAction = "restart" // ended if it runs, then started as at `up`
	FaultCut     FaultAction = "cut"     // the node's link drops every frame, or those of one direction
	FaultDisk    FaultAction = "disk"    // the disk of the node's mongod is full, or its fsyncs stall
	FaultClock   FaultAction = "clock"   // the node's mongod is restarted with a clock that is wrong
	FaultHeal    FaultAction = "heal"    // all of the above undone
)

// FaultRequest injects or heals a fault. Target is NODE, NODE/PROCESS or a
// datacenter (cut and heal only); empty with heal means everything.
type FaultRequest struct {
	Action FaultAction `json:"action"`
	Target string      `json:"target"`
	// Direction is what a cut of a node drops; empty means both ways.
	Direction engine.Direction `json:"direction,omitempty"`
	// Other is the datacenter from which a one-way cut of a datacenter parts it; empty
	// is all others.
	Other string `json:"other,omitempty"`
	// Ailment is what befalls the disk: disk.Full or disk.Stalled.
	Ailment disk.Ailment `json:"ailment,omitempty"`
	// Offset is by how much a clock is wrong, ahead if it is positive.
	Offset time.Duration `json:"offset_ns,omitempty"`
	// DryRun asks what would be done, and does nothing.
	DryRun bool `json:"dry_run,omitempty"`
}

// FaultResult lists what was done, one line each.
type FaultResult struct {
	Done []string `json:"done"`
	// Planned is what would have been done, in a dry run.
	Planned []string `json:"planned,omitempty"`
}

// faultStep is one thing to do.
type faultStep struct {
	// what says it, as of something that has been done: "killed web-1/web".
	what string
	do   func(context.Context) error
	// makes is the fault that it makes; its Action is empty when it makes none.
	makes FaultRecord
	// heals are the faults of target that it undoes.
	target string
	heals  []FaultAction
}

// faultTimeout bounds one fault; a restart waits for the old process to go.
const faultTimeout = 30 * time.Second

func (s *Supervisor) handleFault(ctx context.Context, call *control.Call) error {
	var request FaultRequest
	if err := call.Decode(&request); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, faultTimeout)
	defer cancel()
	steps, err := s.faultSteps(request)
	if err != nil {
		return err
	}
	result := FaultResult{Done: []string{}}
	for _, step := range steps {
		if request.DryRun {
			result.Planned = append(result.Planned, step.what)
			continue
		}
		err := s.takeFault(ctx, step)
		if errors.Is(err, errLeftToReadmit) {
			result.Done = append(result.Done, "did not start "+step.target+": "+errLeftToReadmit.Error())
			continue
		}
		if err != nil {
			return fail(2, "sluice status", "%s %s: %v", request.Action, request.Target, err)
		}
		result.Done = append(result.Done, step.what)
	}
	s.log.Info("fault", "action", request.Action, "target", request.Target, "done", result.Done, "planned", result.Planned)
	return call.Result(result)
}

// takeFault makes or heals one fault. A fault is on the list before it is made,
// and stays there when it was perhaps made; it leaves the list once it is healed.
func (s *Supervisor) takeFault(ctx context.Context, step faultStep) error {
	if step.makes.Action != "" {
		step.makes.Since = time.Now()
		if err := s.faults.add(step.makes); err != nil {
			return err
		}
	}
	if err := step.do(ctx); err != nil {
		return err
	}
	if len(step.heals) > 0 {
		return s.faults.remove(step.target, step.heals...)
	}
	return nil
}

// faultSteps is what a fault comes to at this moment. It changes nothing.
func (s *Supervisor) faultSteps(request FaultRequest) ([]faultStep, error) {
	switch request.Action {
	case FaultCut:
		if err := s.checkOther(request); err != nil {
			return nil, err
		}
		return s.cut(request.Target, request.Direction)
	case FaultDisk:
		return s.disk(request.Target, request.Ailment)
	case FaultClock:
		return s.setClock(request.Target, request.Offset)
	case FaultHeal:
		return s.heal(request.Target)
	case FaultKill, FaultTerm, FaultStop, FaultCont, FaultRestart:
		return s.signal(request)
	default:
		return nil, fail(2, "sluice fault --help", "unknown fault %q", request.Action)
	}
}

// signal applies a fault to one process, or to every process of a node.
func (s *Supervisor) signal(request FaultRequest) ([]faultStep, error) {
	nodeName, processName, one := strings.Cut(request.Target, "/")
	n, err := s.find(nodeName)
	if err != nil {
		return nil, err
	}
	names := n.names()
	if one {
		if n.process(processName) == nil {
			return nil, n.noProcess(processName)
		}
		names = []string{processName}
	}
	var steps []faultStep
	for _, name := range names {
		if request.Action != FaultRestart && !n.process(name).State().Running {
			if one {
				return nil, fail(2, "sluice fault restart "+request.Target, "%s %s: it is not running", request.Action, request.Target)
			}
			// What of a whole node is dead already needs no fault.
			continue
		}
		steps = append(steps, s.processFault(n, request.Action, name))
	}
	return steps, nil
}

func (n *node) noProcess(name string) error {
	return fail(2, "processes of "+n.node.Name+": "+joinWords(n.names()), "no process %q on %s", name, n.node.Name)
}

// processFault is one of the faults of a process.
func (s *Supervisor) processFault(n *node, action FaultAction, name string) faultStep {
	p := n.process(name)
	label := n.node.Name + "/" + name
	sends := func(signal syscall.Signal) func(context.Context) error {
		return func(context.Context) error { return p.Signal(signal) }
	}
	made := FaultRecord{Action: action, Target: label}
	switch action {
	case FaultKill:
		return faultStep{what: "killed " + label, do: p.Kill, makes: made}
	case FaultTerm:
		return faultStep{what: "told " + label + " to end", do: sends(syscall.SIGTERM), makes: made}
	case FaultStop:
		return faultStep{what: "stopped " + label, do: sends(syscall.SIGSTOP), makes: made}
	case FaultCont:
		return faultStep{what: "continued " + label, do: sends(syscall.SIGCONT), target: label, heals: []FaultAction{FaultStop}}
	case FaultRestart:
		return faultStep{
			what: "restarted " + label, target: label, heals: []FaultAction{FaultKill, FaultTerm, FaultStop},
			do: func(ctx context.Context) error {
				switch {
				case name != processMongod:
				case p.State().Running:
					s.partWell(ctx, n)
				case s.lostItsVote(ctx, n):
					return errLeftToReadmit
				}
				return p.Restart(ctx)
			},
		}
	case FaultCut, FaultDisk, FaultClock, FaultHeal:
	}
	return faultStep{what: label, do: func(context.Context) error { return fmt.Errorf("%s is not a fault of a process", action) }}
}

func joinWords(words []string) string { return strings.Join(words, ", ") }
