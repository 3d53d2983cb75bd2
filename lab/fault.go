package lab

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	"sluice/lab/control"
)

// FaultAction is what a fault does.
type FaultAction string

// The faults, by the verbs of the command line.
const (
	FaultKill    FaultAction = "kill"    // SIGKILL; the process stays dead until restart or heal
	FaultStop    FaultAction = "stop"    // SIGSTOP: alive, silent
	FaultCont    FaultAction = "cont"    // SIGCONT
	FaultRestart FaultAction = "restart" // ended if it runs, then started as at `up`
	FaultCut     FaultAction = "cut"     // the node's link drops every frame
	FaultHeal    FaultAction = "heal"    // all of the above undone
)

// FaultRequest injects or heals a fault. Target is NODE, NODE/PROCESS or a
// datacenter (cut and heal only); empty with heal means everything.
type FaultRequest struct {
	Action FaultAction `json:"action"`
	Target string      `json:"target"`
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
		if err := step.do(ctx); err != nil {
			return fail(2, "sluice status", "%s %s: %v", request.Action, request.Target, err)
		}
		result.Done = append(result.Done, step.what)
	}
	s.log.Info("fault", "action", request.Action, "target", request.Target, "done", result.Done, "planned", result.Planned)
	return call.Result(result)
}

// faultSteps is what a fault comes to at this moment. It changes nothing.
func (s *Supervisor) faultSteps(request FaultRequest) ([]faultStep, error) {
	switch request.Action {
	case FaultCut:
		return s.cut(request.Target)
	case FaultHeal:
		return s.heal(request.Target)
	case FaultKill, FaultStop, FaultCont, FaultRestart:
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
		steps = append(steps, n.fault(request.Action, name))
	}
	return steps, nil
}

func (n *node) noProcess(name string) error {
	return fail(2, "processes of "+n.node.Name+": "+joinWords(n.names()), "no process %q on %s", name, n.node.Name)
}

// fault is one of the faults of a process.
func (n *node) fault(action FaultAction, name string) faultStep {
	p := n.process(name)
	label := n.node.Name + "/" + name
	switch action {
	case FaultKill:
		return faultStep{"killed " + label, p.Kill}
	case FaultStop:
		return faultStep{"stopped " + label, func(context.Context) error { return p.Signal(syscall.SIGSTOP) }}
	case FaultCont:
		return faultStep{"continued " + label, func(context.Context) error { return p.Signal(syscall.SIGCONT) }}
	case FaultRestart:
		return faultStep{"restarted " + label, p.Restart}
	case FaultCut, FaultHeal:
	}
	return faultStep{label, func(context.Context) error { return fmt.Errorf("%s is not a fault of a process", action) }}
}

// targets are the nodes that a target names: a node, a datacenter, or all.
func (s *Supervisor) targets(target string) ([]*node, error) {
	if target == "" {
		return s.nodes, nil
	}
	var found []*node
	for _, n := range s.nodes {
		if n.datacenter.Name == target {
			found = append(found, n)
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	name, _, _ := strings.Cut(target, "/")
	n, err := s.find(name)
	if err != nil {
		return nil, err
	}
	return []*node{n}, nil
}

func (s *Supervisor) cut(target string) ([]faultStep, error) {
	if target == "" || strings.Contains(target, "/") {
		return nil, fail(2, "sluice fault cut NODE|DATACENTER", "cut wants a node or a datacenter")
	}
	if _, ok := s.topology.Datacenter(target); ok {
		step, err := s.partition(target, true)
		return []faultStep{step}, err
	}
	n, err := s.find(target)
	if err != nil {
		return nil, err
	}
	return []faultStep{{"cut " + target, n.machine.Cut}}, nil
}

// partitioner is an engine that can part a whole datacenter from the others, and
// leave its nodes together.
type partitioner interface {
	CutDatacenter(ctx context.Context, name string) error
	HealDatacenter(ctx context.Context, name string) error
}

// partition cuts a datacenter off from the others, or takes that back.
func (s *Supervisor) partition(name string, cut bool) (faultStep, error) {
	able, ok := s.engine.(partitioner)
	if !ok {
		return faultStep{}, fail(2, "sluice up --engine netns", "cut %s: cannot, because the %s engine has no links", name, s.engine.Kind())
	}
	act, word := able.HealDatacenter, "healed"
	if cut {
		act, word = able.CutDatacenter, "cut"
	}
	return faultStep{word + " datacenter " + name, func(ctx context.Context) error {
		if err := act(ctx, name); err != nil {
			return err
		}
		s.partitioned.Store(name, cut)
		return nil
	}}, nil
}

// rejoin takes back the partitions of the datacenters that the target names.
func (s *Supervisor) rejoin(target string) ([]faultStep, error) {
	var steps []faultStep
	for _, dc := range s.topology.Datacenters {
		cut, _ := s.partitioned.Load(dc.Name)
		if cut != true || target != "" && target != dc.Name {
			continue
		}
		step, err := s.partition(dc.Name, false)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// heal undoes every fault of the target: links up, frozen processes on, dead
// ones started.
func (s *Supervisor) heal(target string) ([]faultStep, error) {
	nodes, err := s.targets(target)
	if err != nil {
		return nil, err
	}
	steps, err := s.rejoin(target)
	if err != nil {
		return nil, err
	}
	_, only, one := strings.Cut(target, "/")
	if one && nodes[0].process(only) == nil {
		return nil, nodes[0].noProcess(only)
	}
	for _, n := range nodes {
		if n.machine.IsCut() && !one {
			steps = append(steps, faultStep{"healed " + n.node.Name, n.machine.Heal})
		}
		for _, name := range n.names() {
			if one && only != name {
				continue
			}
			state := n.process(name).State()
			if action := healing(state.Running, state.Stopped); action != "" {
				steps = append(steps, n.fault(action, name))
			}
		}
	}
	return steps, nil
}

// healing is what brings a process back; empty when nothing ails it.
func healing(running, stopped bool) FaultAction {
	switch {
	case stopped:
		return FaultCont
	case !running:
		return FaultRestart
	default:
		return ""
	}
}

func joinWords(words []string) string { return strings.Join(words, ", ") }
