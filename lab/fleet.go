package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"sluice/datacenters"
	"sluice/lab/clock"
	"sluice/lab/disk"
	"sluice/lab/engine"
	"sluice/lab/process"
)

// fleet is what runs at one moment: the datacenters and their nodes. It is
// immutable; the way up of a second datacenter, and its way down, make a new one.
type fleet struct {
	datacenters []datacenters.Datacenter
	nodes       []*node
}

// all returns the nodes of every running datacenter.
func (s *Supervisor) all() []*node {
	if f := s.fleet.Load(); f != nil {
		return f.nodes
	}
	return nil
}

// running returns the datacenters that run, the primary one first.
func (s *Supervisor) running() []datacenters.Datacenter {
	if f := s.fleet.Load(); f != nil {
		return f.datacenters
	}
	return nil
}

// runs reports whether a datacenter of that name runs.
func (s *Supervisor) runs(name string) bool {
	return slices.ContainsFunc(s.running(), func(dc datacenters.Datacenter) bool { return dc.Name == name })
}

// ordered returns the datacenters that the topology knows, the primary one first.
func (s *Supervisor) ordered() []datacenters.Datacenter {
	primary, _ := s.topology.Primary()
	return append([]datacenters.Datacenter{primary}, slices.DeleteFunc(slices.Clone(s.topology.Datacenters), func(dc datacenters.Datacenter) bool {
		return dc.Name == primary.Name
	})...)
}

// in returns the nodes of one datacenter.
func (s *Supervisor) in(dc string) []*node {
	return filter(s.all(), func(n *node) bool { return n.datacenter.Name == dc })
}

// with returns the nodes that run a service of the topology.
func (s *Supervisor) with(service string) []*node {
	return filter(s.all(), func(n *node) bool { return n.node.Runs(service) })
}

// withIn is with, in one datacenter.
func (s *Supervisor) withIn(dc, service string) []*node {
	return filter(s.in(dc), func(n *node) bool { return n.node.Runs(service) })
}

// servers returns the nodes of a datacenter that run a Consul server.
func (s *Supervisor) servers(dc string) []*node {
	return filter(s.in(dc), func(n *node) bool { return n.node.Server })
}

func filter(nodes []*node, keep func(*node) bool) []*node {
	var kept []*node
	for _, n := range nodes {
		if keep(n) {
			kept = append(kept, n)
		}
	}
	return kept
}

// openDatacenter makes a datacenter's machines and adds them to the fleet; no
// process runs on them yet.
func (s *Supervisor) openDatacenter(dc datacenters.Datacenter) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if err := s.engine.AddDatacenter(dc.Name, dc.Subnet); err != nil {
		return fmt.Errorf("open datacenter %s: %w", dc.Name, err)
	}
	next := fleet{datacenters: append(slices.Clone(s.running()), dc), nodes: slices.Clone(s.all())}
	members := s.members()
	for _, spec := range dc.Nodes {
		machine, err := s.engine.AddNode(dc.Name, engine.NodeSpec{
			Name:    spec.Name,
			Address: netip.PrefixFrom(spec.Address, dc.Subnet.Bits()),
			// Read by the netns engine alone, where it is the node's own agent.
			Nameserver: netip.AddrFrom4([4]byte{127, 0, 0, 1}),
		})
		if err != nil {
			return errors.Join(fmt.Errorf("open node %s: %w", spec.Name, err), s.engine.RemoveDatacenter(dc.Name))
		}
		n := &node{
			place: place{
				datacenter: dc, node: spec, members: members, failover: s.others(dc.Name),
				address: machine.Address(), loopback: machine.Loopback(), flat: !s.engine.Segmented(),
				socket: s.agentSocket(spec.Name),
			},
			machine:   machine,
			processes: map[string]*process.Process{},
		}
		if spec.Runs(datacenters.Mongo) {
			n.clock = clock.New(machine)
			n.disk = disk.New(n.clock, self)
		}
		next.nodes = append(next.nodes, n)
	}
	s.fleet.Store(&next)
	return nil
}

// others names the datacenters in which the processes of one of them look for a
// service that their own lacks, in order.
func (s *Supervisor) others(own string) []string {
	var others []string
	for _, dc := range s.ordered() {
		if dc.Name != own {
			others = append(others, dc.Name)
		}
	}
	return others
}
