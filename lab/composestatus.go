package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"sluice/datacenters"
	"sluice/intentions"
)

// Status is what Docker says of the containers, what the processes in them say of
// themselves, and what is decided about every edge. Processes of which there is no
// container are left out, and so are datacenters without any.
func (c *ComposeLab) Status(ctx context.Context) (Status, error) {
	containers, err := c.Containers(ctx)
	if err != nil {
		return Status{}, err
	}
	status := Status{
		State: "up", Engine: string(c.supervisor.engine.Kind()), Segmented: true, Profile: c.supervisor.options.Profile,
		PIDNamespace: "container", Faults: []FaultRecord{}, Edges: []EdgeStatus{},
	}
	if err := c.readFaults(ctx); err != nil {
		status.Limits = append(status.Limits, "Which faults were made is not known: "+err.Error())
	}
	status.Faults = append(status.Faults, c.faults.list()...)
	var members []MongoMember
	status.Nodes, members = c.nodeStatus(ctx, containers)
	for _, dc := range c.supervisor.ordered() {
		if slices.ContainsFunc(status.Nodes, func(n NodeStatus) bool { return n.Datacenter == dc.Name }) {
			cut := c.faults.has(FaultCut, dc.Name)
			status.Datacenters = append(status.Datacenters, DatacenterStatus{Name: dc.Name, Primary: dc.Primary, Cut: cut, CutDirection: bothIf(cut)})
		}
	}
	status.tellSides(sidesOf(members))
	status.tellDenials()
	if rules, err := c.Rules(ctx); err != nil {
		status.EdgesError = err.Error()
	} else {
		status.Edges = judgeEdges(intentions.NewSet(rules, intentions.Deny), status.Nodes)
	}
	return status, nil
}

func bothIf(cut bool) string {
	if cut {
		return "both"
	}
	return ""
}

// nodeStatus asks every process at once.
func (c *ComposeLab) nodeStatus(ctx context.Context, containers []ComposeContainer) (nodes []NodeStatus, members []MongoMember) {
	found := make([]ProcessStatus, len(containers))
	reports := make([]*AgentReport, len(containers))
	var wait sync.WaitGroup
	for i, container := range containers {
		wait.Go(func() { found[i], reports[i] = c.processStatus(ctx, container) })
	}
	wait.Wait()
	for i, container := range containers {
		n, err := c.supervisor.find(container.Node)
		if err != nil {
			continue // Containers lists nodes of the topology only
		}
		if len(nodes) == 0 || nodes[len(nodes)-1].Name != container.Node {
			cut := c.faults.has(FaultCut, container.Node)
			nodes = append(nodes, NodeStatus{Name: container.Node, Datacenter: n.datacenter.Name, Address: n.address.String(), Cut: cut, CutDirection: bothIf(cut)})
		}
		last := &nodes[len(nodes)-1]
		last.Processes = append(last.Processes, found[i])
		if container.Process == processMongoAgent {
			members = append(members, MongoMember{Node: container.Node, Datacenter: n.datacenter.Name, Role: found[i].Role, Report: reports[i]})
		}
	}
	return nodes, members
}

// processStatus is one process; a mongo-agent's report with it.
func (c *ComposeLab) processStatus(ctx context.Context, container ComposeContainer) (ProcessStatus, *AgentReport) {
	status := ProcessStatus{Name: container.Process, State: c.stateOf(container)}
	n, err := c.supervisor.find(container.Node)
	if err != nil || status.State != stateRunning || !hasOps(container.Process) {
		return status, nil
	}
	ctx, cancel := context.WithTimeout(ctx, composeAnswer)
	defer cancel()
	client := c.client(container.ID)
	n.askProcess(ctx, client, container.Process, &status)
	if container.Process != processMongoAgent {
		return status, nil
	}
	var report AgentReport
	if getJSON(ctx, client, "http://"+n.ops(processMongoAgent)+"/role", &report) != nil {
		return status, nil
	}
	return status, &report
}

// stateOf says how a process is, in the words of the other engines.
func (c *ComposeLab) stateOf(container ComposeContainer) string {
	switch {
	case container.State != stateRunning:
		return "ended: " + container.Status
	case c.faults.has(FaultStop, container.Node+"/"+container.Process):
		return "stopped" // Docker does not say so
	default:
		return stateRunning
	}
}

// Rules are the intentions that Consul holds, as the operator reads them.
func (c *ComposeLab) Rules(ctx context.Context) ([]intentions.Rule, error) {
	out, err := c.operator(ctx, nil, "intentions", "list", "-o", "json")
	if err != nil {
		return nil, err
	}
	var rules []intentions.Rule
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&rules); err != nil {
		return nil, fmt.Errorf("read the intentions: %w", err)
	}
	return rules, nil
}

// AwaitEnforced waits until every process decides an edge as wanted. Those that do not,
// because they are too slow or a fault keeps them from it, are the result's Pending; that
// is no error.
func (c *ComposeLab) AwaitEnforced(ctx context.Context, request EnforcedRequest) (EnforcedResult, error) {
	containers, err := c.Containers(ctx)
	if err != nil {
		return EnforcedResult{}, err
	}
	if err := c.readFaults(ctx); err != nil {
		return EnforcedResult{}, err
	}
	return c.supervisor.awaitEnforced(ctx, request, func(ctx context.Context, request EnforcedRequest) EnforcedResult {
		return c.whoEnforces(ctx, containers, request)
	})
}

// whoEnforces asks every process at once.
func (c *ComposeLab) whoEnforces(ctx context.Context, containers []ComposeContainer, request EnforcedRequest) EnforcedResult {
	var result EnforcedResult
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, container := range containers {
		label := container.Node + "/" + container.Process
		n, err := c.supervisor.find(container.Node)
		state := c.stateOf(container)
		if err != nil || !hasOps(container.Process) || state != stateRunning && state != "stopped" {
			continue
		}
		if state == "stopped" {
			if concerns(container.Process, request) {
				mu.Lock()
				result.Pending = append(result.Pending, PendingProcess{Process: label, Reason: state, Faulty: true})
				mu.Unlock()
			}
			continue
		}
		wait.Go(func() {
			concerned, err := n.decides(ctx, c.client(container.ID), container.Process, request)
			mu.Lock()
			defer mu.Unlock()
			switch fault := c.deafness(containers, n); {
			case err != nil && fault != "":
				result.Pending = append(result.Pending, PendingProcess{Process: label, Reason: fault, Faulty: true})
			case err != nil:
				result.Pending = append(result.Pending, PendingProcess{Process: label, Reason: err.Error()})
			case concerned:
				result.Processes = append(result.Processes, label)
			}
		})
	}
	wait.Wait()
	slices.Sort(result.Processes)
	return result
}

// deafness says which fault keeps news from the processes of a node; empty is none.
func (c *ComposeLab) deafness(containers []ComposeContainer, n *node) string {
	primary, _ := c.supervisor.topology.Primary()
	parted := c.faults.has(FaultCut, n.datacenter.Name) || c.faults.has(FaultCut, primary.Name)
	switch {
	case c.faults.has(FaultCut, n.node.Name):
		return "its node is cut off"
	case parted && !n.datacenter.Primary:
		return n.datacenter.Name + " is parted from the primary datacenter, whose intentions it copies"
	case c.faults.has(FaultStop, n.node.Name+"/"+processConsul):
		return "its agent is stopped"
	case slices.ContainsFunc(containers, func(other ComposeContainer) bool {
		return other.Node == n.node.Name && other.Process == processConsul && other.State != stateRunning
	}):
		return "its agent has ended"
	default:
		return ""
	}
}

// grown reports whether the set that an agent sees has every member.
func grown(report AgentReport, members []SetMember) bool {
	voters := len(report.Peers)
	if report.Voter {
		voters++
	}
	return voters == len(members)
}

// growers are the nodes from which the replica set may grow into a datacenter: wherever
// the primary is meanwhile.
func (s *Supervisor) growers(dc datacenters.Datacenter) []composeGrower {
	primary, _ := s.topology.Primary()
	var newcomers []string
	for _, n := range s.withIn(dc.Name, datacenters.Mongo) {
		newcomers = append(newcomers, composeServiceName(n.node.Name, processMongoAgent))
	}
	var growers []composeGrower
	for _, n := range slices.Concat(s.withIn(primary.Name, datacenters.Mongo), s.withIn(dc.Name, datacenters.Mongo)) {
		after := newcomers
		if own := composeServiceName(n.node.Name, processMongoAgent); !slices.Contains(newcomers, own) {
			after = append([]string{own}, newcomers...)
		}
		growers = append(growers, composeGrower{Node: n.node.Name, After: after})
	}
	return growers
}
