// Package datacenters holds the lab's topology: which datacenters there are,
// which nodes each has, and what runs on them. It is read from HCL files, one
// datacenter per file, and checked as a whole before anybody builds on it.
//
// The package only describes. It starts no goroutine, opens no socket and asks
// nobody for the time.
package datacenters

import (
	"net/netip"
	"slices"
	"strconv"
)

// The services that a node can run.
const (
	Gateway = "gateway"
	Web     = "web"
	// Mongo is a mongod with the mongo-agent that carries its traffic.
	Mongo = "mongo"
)

// Topology is every datacenter of a lab, in the order in which they were loaded.
// A Topology that Load returned is valid: see Validate.
type Topology struct {
	Datacenters []Datacenter `json:"datacenters"`
}

// Datacenter is one Consul datacenter: a subnet of nodes behind one router.
type Datacenter struct {
	Name string `json:"name"`
	// Primary says that this datacenter signs the Connect root and owns the
	// intentions. It has nothing to do with the primary of a replica set.
	Primary bool         `json:"primary"`
	Subnet  netip.Prefix `json:"subnet"`
	// Ports are what the host offers of this datacenter.
	Ports HostPorts `json:"ports"`
	// ReplicaSet is the name of the MongoDB replica set; empty if no node runs
	// one. It is the same in every datacenter.
	ReplicaSet string   `json:"replica_set,omitempty"`
	Nodes      []Node   `json:"nodes"`
	Position   Position `json:"position,omitzero"`

	marks marks
}

// HostPorts are TCP ports on 127.0.0.1 of the host, 1 to 65535.
type HostPorts struct {
	Gateway int `json:"gateway"`
	Admin   int `json:"admin"`
	Consul  int `json:"consul"`
}

// Node is one machine: its own loopback, one Consul agent, and services.
type Node struct {
	Name string `json:"name"`
	// Datacenter is the name of the datacenter that the node belongs to.
	Datacenter string     `json:"datacenter"`
	Address    netip.Addr `json:"address"`
	// Server says that the node's Consul agent is a server.
	Server bool `json:"server"`
	// Services are out of Gateway, Web and Mongo.
	Services []string `json:"services,omitempty"`
	// Member is the address by which the replica set knows the node's mongod, the
	// same in every node's view; zero if the node runs none.
	Member   netip.AddrPort `json:"member,omitzero"`
	Position Position       `json:"position,omitzero"`

	marks marks
}

// Position is where something was written. The zero Position means nowhere.
type Position struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// String returns "file:line", or "" for the zero Position.
func (p Position) String() string {
	if p == (Position{}) {
		return ""
	}
	return p.File + ":" + strconv.Itoa(p.Line)
}

// Primary returns the primary datacenter; false only on a Topology that does not
// validate.
func (t Topology) Primary() (Datacenter, bool) {
	for _, dc := range t.Datacenters {
		if dc.Primary {
			return dc, true
		}
	}
	return Datacenter{}, false
}

// Datacenter returns the datacenter of that name.
func (t Topology) Datacenter(name string) (Datacenter, bool) {
	for _, dc := range t.Datacenters {
		if dc.Name == name {
			return dc, true
		}
	}
	return Datacenter{}, false
}

// Servers returns the nodes whose Consul agent is a server.
func (d Datacenter) Servers() []Node {
	var servers []Node
	for _, node := range d.Nodes {
		if node.Server {
			servers = append(servers, node)
		}
	}
	return servers
}

// Router returns the address of the datacenter's router: the first of the subnet.
func (d Datacenter) Router() netip.Addr { return d.Subnet.Masked().Addr().Next() }

// Runs reports whether the node runs service.
func (n Node) Runs(service string) bool { return slices.Contains(n.Services, service) }
