// Package engine gives the lab its machines. A node is one machine: an address,
// a loopback of its own, and processes that run in it.
//
// Two engines make nodes. Netns makes each node a network namespace with a link
// to its datacenter's bridge; other nodes cannot reach its loopback, and its link
// can be cut. Loopback gives each node an address of the host's own loopback: it
// runs anywhere and isolates nothing, and says so (Engine.Limits).
//
// The netns engine lives inside the process that Isolate prepares: PID 1 of its
// own PID, mount and network namespaces, and of its own user namespace when the
// caller is not root. When that process dies, for any reason, the kernel ends
// every process of the lab and takes its namespaces, links and mounts with it.
//
// All methods may be called by several goroutines at once.
package engine

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os/exec"
)

// Kind names an engine, as the flag --engine does.
type Kind string

// The engines of this package.
const (
	Netns    Kind = "netns"
	Loopback Kind = "loopback"
)

// Capability says whether an engine works on this machine, for this user.
type Capability struct {
	Kind         Kind   `json:"kind"`
	OK           bool   `json:"ok"`
	Unprivileged bool   `json:"unprivileged"`     // how Isolate must be called for it to work
	Reason       string `json:"reason,omitempty"` // why not, and what would change that
}

// NodeSpec describes one node.
type NodeSpec struct {
	Name       string
	Address    netip.Prefix // the node's address in its datacenter's subnet
	Extra      []netip.Addr // further addresses of the node's loopback; 127.0.0.0/8 needs no mention
	Nameserver netip.Addr   // what /etc/resolv.conf names inside the node; zero leaves it as it is on the host
}

// Engine makes nodes.
type Engine interface {
	Kind() Kind
	// Segmented reports whether nodes are kept apart: whether one node's loopback
	// is out of reach of the others.
	Segmented() bool
	// Limits says, in sentences for people, what is not isolated here.
	Limits() []string
	// AddDatacenter makes the network that the datacenter's nodes share.
	AddDatacenter(name string, subnet netip.Prefix) error
	// RemoveDatacenter removes a datacenter with its nodes, whose processes are the
	// caller's to end first.
	RemoveDatacenter(name string) error
	// AddNode makes a node in a datacenter that was added before. The node is up
	// when AddNode returns.
	AddNode(datacenter string, spec NodeSpec) (Node, error)
	// Close removes every node and network. The nodes' processes are the caller's
	// to end first.
	Close() error
}

// Node is one machine of the lab.
type Node interface {
	Name() string
	Address() netip.Addr  // where other nodes reach it
	Loopback() netip.Addr // where only its own processes reach it (in a segmented engine)
	// Start starts cmd as cmd.Start does, inside the node.
	Start(cmd *exec.Cmd) error
	// DialContext dials from inside the node. The address is a literal IP and port:
	// names are not resolved.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	// Cut unplugs the node, wholly or one way: from then on every frame of that
	// direction is dropped, and nobody is told. Its loopback goes on working. Cuts
	// add up: In and Out together are Both. Cutting twice is no error.
	Cut(ctx context.Context, direction Direction) error
	// Heal plugs it in again, both ways. Healing a node that is not cut is no error.
	Heal(ctx context.Context) error
	// IsCut reports what is cut; NoDirection when nothing is.
	IsCut() Direction
	// Capture writes every frame on the node's link to w in pcap format until ctx
	// ends. The pcap header is written once the capture is in place. It returns an
	// error when frames were lost, because then w is no evidence.
	Capture(ctx context.Context, w io.Writer) error
}
