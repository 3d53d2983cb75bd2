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
	if _, ok := s.topology.Datacenter(target); ok {
		if direction != engine.Both {
			return nil, fail(2, hint, "cut %s --direction %s: a datacenter can only be cut both ways", target, direction)
		}
		step, err := s.partition(target, true)
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
	CutDatacenter(ctx context.Context, name string) error
	HealDatacenter(ctx context.Context, name string) error
}

// partition cuts a datacenter off from the others, or takes that back.
func (s *Supervisor) partition(name string, cut bool) (faultStep, error) {
	able, ok := s.engine.(partitioner)
	if !ok {
		return faultStep{}, fail(2, "sluice up --engine netns", "cut %s: cannot, because the %s engine has no links", name, s.engine.Kind())
	}
	step := faultStep{what: "healed datacenter " + name, target: name, heals: []FaultAction{FaultCut}}
	act := able.HealDatacenter
	if cut {
		step = faultStep{what: "cut datacenter " + name, makes: FaultRecord{Action: FaultCut, Target: name, Detail: string(engine.Both)}}
		act = able.CutDatacenter
	}
	step.do = func(ctx context.Context) error {
		if err := act(ctx, name); err != nil {
			return err
		}
		s.partitioned.Store(name, cut)
		return nil
	}
	return step, nil
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

// heal undoes every fault of the target: links up, disks healthy, clocks right,
// frozen processes on, dead ones started. Disks come before processes: on a full one mongod aborts.
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
