package lab

import (
	"context"
	"errors"
	"strings"

	"sluice/lab/engine"
)

// targets are the nodes that a target names: a node, a datacenter, or all.
func (s *Supervisor) targets(target string) ([]*node, error) {
	if target == "" {
		return s.all(), nil
	}
	var found []*node
	for _, n := range s.all() {
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

// checkOther refuses a cut between two datacenters that is not one: of a node, from
// itself, or where there are more than two, which only a cut of all ways can part.
func (s *Supervisor) checkOther(request FaultRequest) error {
	switch {
	case request.Other == "":
		return nil
	case !s.runs(request.Target) || !s.runs(request.Other) || request.Target == request.Other:
		return fail(2, "sluice status", "cut %s from or to %s: want two datacenters that run", request.Target, request.Other)
	case len(s.running()) > 2:
		return fail(2, "sluice fault cut "+request.Target+" --direction in|out", "cut %s from or to %s: there are more than two datacenters", request.Target, request.Other)
	}
	return nil
}

// cut unplugs a node or a datacenter.
func (s *Supervisor) cut(target string, direction engine.Direction) ([]faultStep, error) {
	const hint = "sluice fault cut NODE|DATACENTER [--direction both|in|out]"
	if target == "" || strings.Contains(target, "/") {
		return nil, fail(2, hint, "cut wants a node or a datacenter")
	}
	switch direction {
	case engine.NoDirection:
		direction = engine.Both
	case engine.Both, engine.In, engine.Out:
	default:
		return nil, fail(2, hint, "direction %q: want both, in or out", direction)
	}
	if s.runs(target) {
		step, err := s.partition(target, direction)
		return []faultStep{step}, err
	}
	n, err := s.find(target)
	if err != nil {
		return nil, err
	}
	what := "cut " + target
	if direction != engine.Both {
		what += ", " + string(direction) + " only"
	}
	makes := FaultRecord{Action: FaultCut, Target: target, Detail: string(cutBesides(n.machine.IsCut(), direction))}
	return []faultStep{{what: what, makes: makes, do: func(ctx context.Context) error {
		err := n.machine.Cut(ctx, direction)
		if err != nil && n.machine.IsCut() == engine.NoDirection {
			// Nothing is cut, so there is nothing to heal.
			return errors.Join(err, s.faults.remove(target, FaultCut))
		}
		return err
	}}}, nil
}

// cutBesides is what is cut once direction is cut too.
func cutBesides(cut, direction engine.Direction) engine.Direction {
	if cut == engine.NoDirection || cut == direction {
		return direction
	}
	return engine.Both
}

// partitioner is an engine that can part a whole datacenter from the others, and
// leave its nodes together.
type partitioner interface {
	CutDatacenter(ctx context.Context, name string, direction engine.Direction) error
	HealDatacenter(ctx context.Context, name string) error
	IsDatacenterCut(name string) engine.Direction
}

// cutOf is what is cut of a datacenter; NoDirection where nothing can be.
func (s *Supervisor) cutOf(dc string) engine.Direction {
	if able, ok := s.engine.(partitioner); ok {
		return able.IsDatacenterCut(dc)
	}
	return engine.NoDirection
}

// partition cuts a datacenter off from the others.
func (s *Supervisor) partition(name string, direction engine.Direction) (faultStep, error) {
	able, ok := s.engine.(partitioner)
	if !ok {
		return faultStep{}, fail(2, "sluice up --engine netns", "cut %s: cannot, because the %s engine has no links", name, s.engine.Kind())
	}
	what := "cut datacenter " + name
	if direction != engine.Both {
		what += ", " + string(direction) + " only"
	}
	return faultStep{
		what:  what,
		makes: FaultRecord{Action: FaultCut, Target: name, Detail: string(cutBesides(able.IsDatacenterCut(name), direction))},
		do:    func(ctx context.Context) error { return able.CutDatacenter(ctx, name, direction) },
	}, nil
}

// rejoin takes back the partitions of the datacenters that the target names.
func (s *Supervisor) rejoin(target string) []faultStep {
	var steps []faultStep
	able, ok := s.engine.(partitioner)
	for _, dc := range s.running() {
		if !ok || able.IsDatacenterCut(dc.Name) == engine.NoDirection || target != "" && target != dc.Name {
			continue
		}
		steps = append(steps, faultStep{
			what: "healed datacenter " + dc.Name, target: dc.Name, heals: []FaultAction{FaultCut},
			do: func(ctx context.Context) error { return able.HealDatacenter(ctx, dc.Name) },
		})
	}
	return steps
}

// heal undoes every fault of the target: links up, disks healthy, clocks right,
// frozen processes on, dead ones started. Disks come before processes: on a full one mongod aborts.
func (s *Supervisor) heal(target string) ([]faultStep, error) {
	nodes, err := s.targets(target)
	if err != nil {
		return nil, err
	}
	steps := s.rejoin(target)
	_, only, one := strings.Cut(target, "/")
	if one && nodes[0].process(only) == nil {
		return nil, nodes[0].noProcess(only)
	}
	for _, n := range nodes {
		if n.machine.IsCut() != engine.NoDirection && !one {
			steps = append(steps, faultStep{
				what: "healed " + n.node.Name, do: n.machine.Heal, target: n.node.Name, heals: []FaultAction{FaultCut},
			})
		}
		if n.ails() && (!one || only == processMongod) {
			steps = append(steps, healDisk(n))
		}
		if n.clockOff() && (!one || only == processMongod) {
			steps = append(steps, s.healClock(n))
		}
		for _, name := range n.names() {
			if one && only != name {
				continue
			}
			state := n.process(name).State()
			ending := s.faults.has(FaultTerm, n.node.Name+"/"+name)
			if action := healing(state.Running, state.Stopped, ending); action != "" {
				steps = append(steps, s.processFault(n, action, name))
			}
		}
	}
	return steps, nil
}

// healing is what brings a process back; empty when nothing ails it. One that was
// told to end is ailing although it may still be at it.
func healing(running, stopped, ending bool) FaultAction {
	switch {
	case !running || ending:
		return FaultRestart
	case stopped:
		return FaultCont
	default:
		return ""
	}
}
