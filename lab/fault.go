package lab

import (
	"context"
	"errors"
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
}

// FaultResult lists what was done, one line each.
type FaultResult struct {
	Done []string `json:"done"`
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
	var done []string
	var err error
	switch request.Action {
	case FaultCut:
		done, err = s.cut(ctx, request.Target)
	case FaultHeal:
		done, err = s.heal(ctx, request.Target)
	case FaultKill, FaultStop, FaultCont, FaultRestart:
		done, err = s.signal(ctx, request)
	default:
		err = fail(2, "sluice fault --help", "unknown fault %q", request.Action)
	}
	if err != nil {
		return err
	}
	s.log.Info("fault", "action", request.Action, "target", request.Target, "done", done)
	if done == nil {
		done = []string{}
	}
	return call.Result(FaultResult{Done: done})
}

// signal applies a fault to one process, or to every process of a node.
func (s *Supervisor) signal(ctx context.Context, request FaultRequest) ([]string, error) {
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
	var done []string
	for _, name := range names {
		// What of a whole node is dead already needs no fault.
		if !one && request.Action != FaultRestart && !n.process(name).State().Running {
			continue
		}
		line, err := n.fault(ctx, request.Action, name)
		if err != nil {
			return done, fail(2, "see `sluice status`", "%s %s/%s: %v", request.Action, nodeName, name, err)
		}
		done = append(done, line)
	}
	return done, nil
}

func (n *node) noProcess(name string) error {
	return fail(2, "processes of "+n.node.Name+": "+joinWords(n.names()), "no process %q on %s", name, n.node.Name)
}

func (n *node) fault(ctx context.Context, action FaultAction, name string) (string, error) {
	p := n.process(name)
	label := n.node.Name + "/" + name
	running := p.State().Running
	if !running && action != FaultRestart {
		return "", errors.New("it is not running; start it with `sluice fault restart " + label + "`")
	}
	switch action {
	case FaultKill:
		return "killed " + label, p.Kill(ctx)
	case FaultStop:
		return "stopped " + label, p.Signal(syscall.SIGSTOP)
	case FaultCont:
		return "continued " + label, p.Signal(syscall.SIGCONT)
	case FaultRestart:
		return "restarted " + label, p.Restart(ctx)
	case FaultCut, FaultHeal:
	}
	return "", fmt.Errorf("%s is not a fault of a process", action)
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

func (s *Supervisor) cut(ctx context.Context, target string) ([]string, error) {
	if target == "" || strings.Contains(target, "/") {
		return nil, fail(2, "sluice fault cut NODE|DATACENTER", "cut wants a node or a datacenter")
	}
	if _, ok := s.topology.Datacenter(target); ok {
		return s.partition(ctx, target, true)
	}
	n, err := s.find(target)
	if err != nil {
		return nil, err
	}
	if err := n.machine.Cut(ctx); err != nil {
		return nil, fail(2, "", "cut %s: %v", target, err)
	}
	return []string{"cut " + target}, nil
}

// partitioner is an engine that can part a whole datacenter from the others, and
// leave its nodes together.
type partitioner interface {
	CutDatacenter(ctx context.Context, name string) error
	HealDatacenter(ctx context.Context, name string) error
}

// partition cuts a datacenter off from the others, or takes that back.
func (s *Supervisor) partition(ctx context.Context, name string, cut bool) ([]string, error) {
	able, ok := s.engine.(partitioner)
	if !ok {
		return nil, fail(2, "sluice up --engine netns", "cut %s: cannot, because the %s engine has no links", name, s.engine.Kind())
	}
	act, word := able.HealDatacenter, "healed"
	if cut {
		act, word = able.CutDatacenter, "cut"
	}
	if err := act(ctx, name); err != nil {
		return nil, fail(2, "", "%s: %v", name, err)
	}
	s.partitioned.Store(name, cut)
	return []string{word + " datacenter " + name}, nil
}

// rejoin takes back the partitions of the datacenters that the target names.
func (s *Supervisor) rejoin(ctx context.Context, target string) ([]string, error) {
	var done []string
	for _, dc := range s.topology.Datacenters {
		cut, _ := s.partitioned.Load(dc.Name)
		if cut != true || target != "" && target != dc.Name {
			continue
		}
		lines, err := s.partition(ctx, dc.Name, false)
		if err != nil {
			return done, err
		}
		done = append(done, lines...)
	}
	return done, nil
}

// heal undoes every fault of the target: links up, frozen processes on, dead
// ones started.
func (s *Supervisor) heal(ctx context.Context, target string) ([]string, error) {
	nodes, err := s.targets(target)
	if err != nil {
		return nil, err
	}
	done, err := s.rejoin(ctx, target)
	if err != nil {
		return done, err
	}
	_, only, one := strings.Cut(target, "/")
	if one && nodes[0].process(only) == nil {
		return nil, nodes[0].noProcess(only)
	}
	for _, n := range nodes {
		if n.machine.IsCut() && !one {
			if err := n.machine.Heal(ctx); err != nil {
				return done, fail(2, "", "heal %s: %v", n.node.Name, err)
			}
			done = append(done, "healed "+n.node.Name)
		}
		for _, name := range n.names() {
			if one && only != name {
				continue
			}
			action := healing(n.process(name).State().Running, n.process(name).State().Stopped)
			if action == "" {
				continue
			}
			line, err := n.fault(ctx, action, name)
			if err != nil {
				return done, fail(2, "", "heal %s/%s: %v", n.node.Name, name, err)
			}
			done = append(done, line)
		}
	}
	return done, nil
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
