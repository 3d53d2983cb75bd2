package lab

import (
	"slices"
	"strings"

	"sluice/lab/control"
	"sluice/lab/engine"
)

// composeStep is one docker command on one container.
type composeStep struct {
	// what says it, as of something that has been done.
	what    string
	docker  []string
	service string
	// network, when not empty, stands before the container.
	network string
	// harmless are parts of errors that mean that there was nothing to do.
	harmless []string
	// makes is the fault that it makes a part of; its Action is empty when it makes none.
	makes FaultRecord
	// heals are the faults of target that are undone once it is done.
	target string
	heals  []FaultAction
}

// composeFault is what a fault comes to in containers as they are, with the faults that
// hold. It changes nothing.
func (s *Supervisor) composeFault(request FaultRequest, containers []ComposeContainer, faults []FaultRecord) ([]composeStep, error) {
	switch request.Action {
	case FaultKill, FaultTerm, FaultStop, FaultCont:
		return s.composeSignal(request)
	case FaultRestart:
		return s.composeRestart(request.Target)
	case FaultCut:
		if request.Direction != engine.Both && request.Direction != "" {
			return nil, fail(control.ExitUsage, "sluice fault cut "+request.Target+" --engine compose", "Docker connects or disconnects a container, both ways")
		}
		return s.composeLinks(request.Target, false)
	case FaultHeal:
		return s.composeHeal(request.Target, containers, faults)
	default:
		return nil, fail(control.ExitUsage, "", "fault %s: not with containers, whose disks and clocks are the host's", request.Action)
	}
}

// composeTarget is a node with those of its processes that are meant.
func (s *Supervisor) composeTarget(target string) (*node, []string, error) {
	name, process, one := strings.Cut(target, "/")
	n, err := s.find(name)
	if err != nil {
		return nil, nil, err
	}
	processes := s.composeProcesses(n)
	if !one {
		return n, processes, nil
	}
	if !slices.Contains(processes, process) {
		return nil, nil, fail(control.ExitUsage, "processes of "+name+": "+joinWords(processes), "no process %q on %s", process, name)
	}
	return n, []string{process}, nil
}

func (s *Supervisor) composeSignal(request FaultRequest) ([]composeStep, error) {
	n, processes, err := s.composeTarget(request.Target)
	if err != nil {
		return nil, err
	}
	signal := map[FaultAction]string{FaultKill: "KILL", FaultTerm: "TERM", FaultStop: "STOP", FaultCont: "CONT"}[request.Action]
	// A node's first container takes the others' network with it: it is the last.
	processes = slices.Clone(processes)
	slices.Reverse(processes)
	var steps []composeStep
	for _, process := range processes {
		step := composeStep{
			what: "sent " + signal + " to " + n.node.Name + "/" + process, docker: []string{"kill", "--signal", signal}, service: composeServiceName(n.node.Name, process),
		}
		if len(processes) > 1 {
			step.harmless = []string{"is not running"}
		}
		label := n.node.Name + "/" + process
		if request.Action == FaultCont {
			step.target, step.heals = label, []FaultAction{FaultStop}
		} else {
			step.makes = FaultRecord{Action: request.Action, Target: label}
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// composeRestart starts a process anew; with the agent, whose container holds the
// node's network, every process of the node.
func (s *Supervisor) composeRestart(target string) ([]composeStep, error) {
	n, processes, err := s.composeTarget(target)
	if err != nil {
		return nil, err
	}
	if processes[0] == processConsul {
		processes = s.composeProcesses(n)
		if dc := s.composeDatacenter(n.datacenter); len(s.composeNode(n, dc).Doors) > 0 {
			processes = append(processes, "door")
		}
		if n.node.Name == s.composeDatacenter(n.datacenter).PrimaryServer {
			processes = append(processes, "")
		}
	}
	var steps []composeStep
	for _, process := range processes {
		service := composeServiceName(n.node.Name, process)
		if process == "" {
			service = composeOperator
		}
		steps = append(steps, composeStep{
			what: "restarted " + service, docker: []string{"restart", "--time", "8"}, service: service,
			target: n.node.Name + "/" + process, heals: []FaultAction{FaultKill, FaultTerm, FaultStop},
		})
	}
	return steps, nil
}

// composeLinks disconnects or connects the links of a node, of a datacenter to the
// others, or with an empty target all of them.
func (s *Supervisor) composeLinks(target string, connect bool) ([]composeStep, error) {
	if _, known := s.topology.Datacenter(target); !known && target != "" {
		if _, err := s.find(target); err != nil {
			return nil, err
		}
	}
	var steps []composeStep
	for _, n := range s.all() {
		for _, link := range s.composeNetworks(n) {
			between := n.datacenter.Name != link.Name && (target == n.datacenter.Name || target == link.Name)
			if target != "" && target != n.node.Name && !between {
				continue
			}
			cut := target
			if cut == "" {
				cut = n.node.Name
			}
			step := composeStep{
				makes: FaultRecord{Action: FaultCut, Target: cut, Detail: string(engine.Both)},
				what:  "disconnected " + n.node.Name + " from " + link.Name, docker: []string{"network", "disconnect"},
				service: n.node.Name, network: link.Name, harmless: []string{"is not connected", "has no container"},
			}
			if connect {
				step.what = "connected " + n.node.Name + " to " + link.Name
				step.docker = []string{"network", "connect", "--ip", link.Address.String()}
				step.harmless = []string{"already exists in network", "has no container"}
				step.makes = FaultRecord{}
			}
			steps = append(steps, step)
		}
	}
	return steps, nil
}

// composeHeal undoes every fault of the target: links up, stopped processes on, dead ones
// started. A link is connected whether a fault says that it is cut or not; that it was so
// before is no error.
func (s *Supervisor) composeHeal(target string, containers []ComposeContainer, faults []FaultRecord) ([]composeStep, error) {
	var steps []composeStep
	if !strings.Contains(target, "/") {
		links, err := s.composeLinks(target, true)
		if err != nil {
			return nil, err
		}
		steps = links
		for _, fault := range faults {
			if fault.Action == FaultCut && (target == "" || target == fault.Target) {
				last := &steps[len(steps)-1]
				steps = append(steps, composeStep{what: "healed " + fault.Target, service: last.service, target: fault.Target, heals: []FaultAction{FaultCut}})
			}
		}
	}
	over := map[string]bool{}
	for _, container := range containers {
		label := container.Node + "/" + container.Process
		if n, err := s.find(container.Node); err != nil || over[container.Node] ||
			target != "" && target != label && target != container.Node && target != n.datacenter.Name {
			continue
		}
		has := func(actions ...FaultAction) bool {
			return slices.ContainsFunc(faults, func(f FaultRecord) bool { return f.Target == label && slices.Contains(actions, f.Action) })
		}
		action := healing(container.State == stateRunning, has(FaultStop), has(FaultTerm))
		if action == "" && has(FaultKill) {
			action = FaultRestart // written down, and perhaps not made
		}
		if action == "" {
			continue
		}
		further, err := s.composeFault(FaultRequest{Action: action, Target: label}, nil, nil)
		if err != nil {
			return nil, err
		}
		steps = append(steps, further...)
		// With the agent's container every process of the node starts anew.
		over[container.Node] = action == FaultRestart && container.Process == processConsul
	}
	return steps, nil
}
