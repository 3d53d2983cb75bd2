package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"sluice/datacenters"
	"sluice/lab/control"
)

// furtherSteps bring up a datacenter beside the primary one, which must be up. A
// server that asks for its intermediate certificate before its token is known is
// refused and asks again minutes later, so the tokens come first.
func (s *Supervisor) furtherSteps(dc datacenters.Datacenter) []step {
	name := func(what string) string { return dc.Name + ": " + what }
	in := func(do func(context.Context, datacenters.Datacenter) error) func(context.Context) error {
		return func(ctx context.Context) error { return do(ctx, dc) }
	}
	return []step{
		{name("nodes, keys and certificates"), 20 * time.Second, in(s.openFurther), "see `sluice doctor`"},
		{name("access control, in the primary"), 30 * time.Second, in(s.writeAccessControl), "the primary datacenter must have a leader: `sluice status`"},
		{name("Consul server, federated"), 90 * time.Second, in(s.federate), "see `sluice logs " + dc.Servers()[0].Name + "/consul`"},
		{name("agents and mongod"), 60 * time.Second, in(s.startAgents), "see `sluice logs NODE/consul` and `sluice logs NODE/mongod`"},
		{name("services"), 60 * time.Second, in(s.startServices), "see `sluice logs NODE/PROCESS`"},
		{name("replica set"), 90 * time.Second, s.growSet, "see `sluice mongo status`"},
		{name("a request across every allowed edge"), 60 * time.Second, func(ctx context.Context) error {
			return errors.Join(s.awaitEdges(ctx), s.openDoors(dc.Name))
		}, "see the logs of the gateway and of web in " + dc.Name},
	}
}

// openFurther makes the machines of a datacenter that does not run.
func (s *Supervisor) openFurther(_ context.Context, dc datacenters.Datacenter) error {
	if err := s.openDatacenter(dc); err != nil {
		return err
	}
	return s.prepareNodes(dc)
}

// federate starts the servers of a datacenter and waits until it has copied the
// primary's tokens and signs certificates that the primary's root vouches for. A
// list of roots is no proof of that: only a leaf is (Consul documentation, "Connect
// CA"; its errors are logged and nothing else).
func (s *Supervisor) federate(ctx context.Context, dc datacenters.Datacenter) error {
	if err := s.startServers(ctx, dc); err != nil {
		return err
	}
	server := s.servers(dc.Name)[0]
	client, err := s.openConsul(server)
	if err != nil {
		return err
	}
	defer client.Close()
	primary, _ := s.topology.Primary()
	for _, condition := range []struct {
		what  string
		holds func(context.Context) error
	}{
		{"Consul has a leader in " + dc.Name, client.AwaitLeader},
		{"tokens are copied to " + dc.Name, func(ctx context.Context) error { return client.AwaitReplication(ctx, primary.Name) }},
		{dc.Name + " signs certificates", client.AwaitSigning},
	} {
		began := time.Now()
		if err := s.await(ctx, server, processConsul, condition.what, condition.holds); err != nil {
			return err
		}
		s.log.Info(condition.what, "took", time.Since(began))
	}
	return nil
}

// growSet makes the members of all running datacenters those of the replica set.
func (s *Supervisor) growSet(ctx context.Context) error {
	if len(s.with(datacenters.Mongo)) == 0 {
		return nil
	}
	if err := s.reshape(ctx, s.setMembers(s.with(datacenters.Mongo))); err != nil {
		return err
	}
	return s.awaitReplicaSet(ctx)
}

// setMembers are the members of the set that run on nodes.
func (s *Supervisor) setMembers(nodes []*node) []SetMember {
	var members []SetMember
	for _, n := range nodes {
		members = append(members, SetMember{Address: n.own().String(), Datacenter: n.datacenter.Name})
	}
	return members
}

// reshape makes these the members of the replica set, one after the other.
func (s *Supervisor) reshape(ctx context.Context, members []SetMember) error {
	// Any agent of a member that stays can do it; the primary's is among them.
	agents := filter(s.with(datacenters.Mongo), func(n *node) bool {
		return slices.ContainsFunc(members, func(m SetMember) bool { return m.Address == n.own().String() })
	})
	if len(agents) == 0 {
		return errors.New("none of the replica set's members runs")
	}
	err := s.waitAlive(ctx, "the replica set has its members", func(ctx context.Context) error {
		var failed []error
		for _, n := range agents {
			pending, err := s.agentOps(n).reshape(ctx, members)
			if err == nil && pending == "" {
				return nil
			}
			if err == nil {
				return errors.New(pending)
			}
			failed = append(failed, fmt.Errorf("%s: %w", n.node.Name, err))
		}
		return errors.Join(failed...)
	})
	return blameUnless(err, agents[0], processMongoAgent)
}

// handleExtend starts every datacenter of the topology that does not run yet, and
// tells its steps as `await` does.
func (s *Supervisor) handleExtend(ctx context.Context, call *control.Call) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if !s.journal.up() {
		return fail(control.ExitNo, "sluice down", "the lab is not up")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.options.Timeout, fmt.Errorf("the whole took longer than %s (--timeout)", s.options.Timeout))
	defer cancel()
	began := time.Now()
	var final Event
	tell := func(event Event) {
		final = event
		_ = call.Progress(event)
	}
	var phases []Phase
	for _, dc := range s.ordered() {
		if s.runs(dc.Name) {
			continue
		}
		further, ok := s.takeAll(ctx, s.furtherSteps(dc), tell)
		phases = append(phases, further...)
		if !ok {
			s.undo(context.WithoutCancel(ctx), dc)
			return call.Result(final)
		}
	}
	summary := s.summary(phases, time.Since(began))
	s.journal.add(Event{State: LabReady, Summary: &summary})
	return call.Result(Event{State: LabReady, Summary: &summary})
}

// undoTimeout bounds each part of taking back a datacenter that did not come up.
const undoTimeout = 30 * time.Second

// undo takes back what there is of a datacenter that did not come up, so that the next
// try begins anew: also if whoever asked for it has gone. What cannot be undone is
// logged; the datacenter's processes end in any case.
func (s *Supervisor) undo(ctx context.Context, dc datacenters.Datacenter) {
	if !s.runs(dc.Name) {
		return
	}
	for _, part := range []func(context.Context) error{
		func(ctx context.Context) error { return s.shrinkSet(ctx, dc) },
		func(ctx context.Context) error { return s.removeDatacenter(ctx, dc) },
		func(ctx context.Context) error { return s.forget(ctx, dc, false) },
	} {
		bounded, cancel := context.WithTimeout(ctx, undoTimeout)
		if err := part(bounded); err != nil {
			s.log.Warn("not all of a datacenter that did not come up is undone", "datacenter", dc.Name, "err", err)
		}
		cancel()
	}
}

// ReduceRequest ends a datacenter that is not the primary one.
type ReduceRequest struct {
	Datacenter string `json:"datacenter"`
	// Purge deletes what its nodes wrote.
	Purge bool `json:"purge"`
}

// handleReduce takes a datacenter out of the lab: its members out of the replica set,
// its servers out of the federation, its nodes out of the network. It tells its steps
// as `await` does.
func (s *Supervisor) handleReduce(ctx context.Context, call *control.Call) error {
	var request ReduceRequest
	if err := call.Decode(&request); err != nil {
		return err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	dc, known := s.topology.Datacenter(request.Datacenter)
	switch {
	case !known || dc.Primary:
		return fail(control.ExitUsage, "sluice down", "%s cannot be taken away from the others", request.Datacenter)
	case !s.runs(dc.Name) && !request.Purge:
		return call.Result(Event{State: LabReady})
	}
	var final Event
	_, ok := s.takeAll(ctx, s.stepsDown(dc, request.Purge), func(event Event) {
		final = event
		_ = call.Progress(event)
	})
	if ok {
		summary := s.summary(nil, 0)
		final = Event{State: LabReady, Summary: &summary}
		s.journal.add(final)
	}
	return call.Result(final)
}

// stepsDown take a datacenter away. What may fail without harm comes first: until the
// processes end, nothing is lost.
func (s *Supervisor) stepsDown(dc datacenters.Datacenter, purge bool) []step {
	name := func(what string) string { return dc.Name + ": " + what }
	return []step{
		{name("out of the replica set"), 60 * time.Second, func(ctx context.Context) error { return s.shrinkSet(ctx, dc) }, "see `sluice mongo status`"},
		{name("processes and nodes"), 40 * time.Second, func(ctx context.Context) error {
			var gone error
			if s.runs(dc.Name) {
				gone = s.removeDatacenter(ctx, dc)
			}
			return errors.Join(gone, s.forget(ctx, dc, purge))
		}, "see the supervisor's log"},
	}
}

// shrinkSet takes the members of a datacenter out of the replica set. A primary among
// them hands over first.
func (s *Supervisor) shrinkSet(ctx context.Context, dc datacenters.Datacenter) error {
	staying := filter(s.with(datacenters.Mongo), func(n *node) bool { return n.datacenter.Name != dc.Name })
	if len(staying) == 0 {
		return nil
	}
	for _, n := range s.withIn(dc.Name, datacenters.Mongo) {
		report, err := s.agentOps(n).report(ctx)
		if err != nil || report.Role != rolePrimary {
			continue
		}
		if err := s.agentOps(n).handOver(ctx, staying[0].node.Name); err != nil {
			return fmt.Errorf("hand over from %s to %s: %w", n.node.Name, staying[0].node.Name, err)
		}
	}
	return s.reshape(ctx, s.setMembers(staying))
}

// forget has Consul forget the servers of a datacenter that has ended, takes its faults
// off the list, and with purge deletes what was written on its nodes.
func (s *Supervisor) forget(ctx context.Context, dc datacenters.Datacenter, purge bool) error {
	var failed []error
	for _, server := range dc.Servers() {
		failed = append(failed, waitFor(ctx, "Consul forgets "+server.Name, func(ctx context.Context) error {
			return s.admin.Load().ForgetServer(ctx, server.Name, dc.Name)
		}))
	}
	failed = append(failed, s.faults.forget(dc))
	for _, spec := range dc.Nodes {
		if !purge {
			break
		}
		if err := os.RemoveAll(s.layout.Node(spec.Name)); err != nil {
			failed = append(failed, fmt.Errorf("delete what %s wrote: %w", spec.Name, err))
		}
	}
	return errors.Join(failed...)
}

// removeDatacenter ends a datacenter's processes and takes its machines away.
func (s *Supervisor) removeDatacenter(ctx context.Context, dc datacenters.Datacenter) error {
	s.shutDoors(dc.Name)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	failed := stopNodes(ctx, s.in(dc.Name))
	next := fleet{
		datacenters: slices.DeleteFunc(slices.Clone(s.running()), func(other datacenters.Datacenter) bool { return other.Name == dc.Name }),
		nodes:       filter(s.all(), func(n *node) bool { return n.datacenter.Name != dc.Name }),
	}
	s.fleet.Store(&next)
	return errors.Join(failed, s.engine.RemoveDatacenter(dc.Name))
}
