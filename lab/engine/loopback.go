package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os/exec"
	"sync"
	"syscall"
)

// errNoLink is why a loopback node cannot be unplugged or listened to.
var errNoLink = errors.New("nodes of the loopback engine share the host's loopback, so there is no link: use --engine netns")

// loopbackEngine makes nodes of addresses. All children are started from one
// thread, because the signal that ends them when the lab dies is sent when the
// thread that started them ends.
type loopbackEngine struct {
	index  int
	parent *thread

	mu          sync.Mutex
	datacenters map[string]netip.Prefix
	nodes       map[netip.Addr]string
	closed      bool
}

// OpenLoopback returns the engine whose nodes are 127.INDEX.X.Y, where X and Y
// are the last two octets of the node's address. Index tells the labs of one
// machine apart. Close kills every process that was started in a node, and so does
// the end of the calling process.
func OpenLoopback(index int) (Engine, error) {
	if index < 0 || index > 255 {
		return nil, fmt.Errorf("open loopback engine: index %d is not in 0..255", index)
	}
	parent, err := startThread(func() error { return nil })
	if err != nil {
		return nil, err
	}
	return &loopbackEngine{
		index:       index,
		parent:      parent,
		datacenters: map[string]netip.Prefix{},
		nodes:       map[netip.Addr]string{},
	}, nil
}

func (e *loopbackEngine) Kind() Kind      { return Loopback }
func (e *loopbackEngine) Segmented() bool { return false }

func (e *loopbackEngine) Limits() []string {
	return []string{
		"Nodes are addresses of the host's own loopback: every process of this machine can reach every port of every node.",
		"So mongod is kept from other nodes by its credentials alone, and whoever reaches web's upstream listener speaks as web.",
		"A node cannot be cut off and its traffic cannot be captured.",
		"A process that a node's process started may outlive a supervisor that was killed; the node's processes do not.",
	}
}

func (e *loopbackEngine) AddDatacenter(name string, subnet netip.Prefix) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.datacenters[name]; ok {
		return fmt.Errorf("add datacenter %s: it exists", name)
	}
	e.datacenters[name] = subnet.Masked()
	return nil
}

func (e *loopbackEngine) RemoveDatacenter(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	subnet, ok := e.datacenters[name]
	if !ok {
		return fmt.Errorf("remove datacenter %q: there is none", name)
	}
	delete(e.datacenters, name)
	maps.DeleteFunc(e.nodes, func(address netip.Addr, _ string) bool {
		a := address.As4()
		base := subnet.Addr().As4()
		return subnet.Contains(netip.AddrFrom4([4]byte{base[0], base[1], a[2], a[3]}))
	})
	return nil
}

func (e *loopbackEngine) AddNode(datacenterName string, spec NodeSpec) (Node, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, fmt.Errorf("add node %s: the lab is closed", spec.Name)
	}
	subnet, ok := e.datacenters[datacenterName]
	if !ok {
		return nil, fmt.Errorf("add node %s: no datacenter %q", spec.Name, datacenterName)
	}
	if !subnet.Contains(spec.Address.Addr()) {
		return nil, fmt.Errorf("add node %s: address %s is not in subnet %s", spec.Name, spec.Address.Addr(), subnet)
	}
	address, err := loopbackAddress(e.index, spec.Address.Addr())
	if err != nil {
		return nil, fmt.Errorf("add node %s: %w", spec.Name, err)
	}
	if other, ok := e.nodes[address]; ok {
		return nil, fmt.Errorf("add node %s: %s is taken by node %s", spec.Name, address, other)
	}
	e.nodes[address] = spec.Name
	return &loopbackNode{name: spec.Name, address: address, parent: e.parent}, nil
}

// loopbackAddress maps a node's address to one of the host's loopback. The third
// octet must not be zero: 127.0.0.1 and its neighbours belong to the host.
func loopbackAddress(index int, address netip.Addr) (netip.Addr, error) {
	if !address.Is4() {
		return netip.Addr{}, fmt.Errorf("address %s is not IPv4", address)
	}
	a := address.As4()
	if a[2] == 0 {
		return netip.Addr{}, fmt.Errorf("address %s: the third octet must not be 0 in the loopback engine", address)
	}
	return netip.AddrFrom4([4]byte{127, byte(index), a[2], a[3]}), nil
}

func (e *loopbackEngine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.closed = true
		e.parent.stop()
	}
	return nil
}

// loopbackNode is an address.
type loopbackNode struct {
	name    string
	address netip.Addr
	parent  *thread
}

func (n *loopbackNode) Name() string         { return n.name }
func (n *loopbackNode) Address() netip.Addr  { return n.address }
func (n *loopbackNode) Loopback() netip.Addr { return n.address }

func (n *loopbackNode) Start(cmd *exec.Cmd) error {
	attributes := syscall.SysProcAttr{}
	if cmd.SysProcAttr != nil {
		attributes = *cmd.SysProcAttr
	}
	attributes.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr = &attributes
	var err error
	if gone := n.parent.do(func() { err = cmd.Start() }); gone != nil {
		return fmt.Errorf("start in node %s: %w", n.name, gone)
	}
	return err
}

// DialContext dials from the node's own address, so that the other end sees which
// node it is.
func (n *loopbackNode) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if err := literal(network, address); err != nil {
		return nil, err
	}
	var dialer net.Dialer
	if target := netip.MustParseAddrPort(address); target.Addr().Is4() && target.Addr().IsLoopback() {
		switch network {
		case "tcp", "tcp4":
			dialer.LocalAddr = &net.TCPAddr{IP: n.address.AsSlice()}
		default:
			dialer.LocalAddr = &net.UDPAddr{IP: n.address.AsSlice()}
		}
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("from node %s: %w", n.name, err)
	}
	return conn, nil
}

func (n *loopbackNode) Cut(context.Context, Direction) error {
	return fmt.Errorf("cannot cut %s: %w", n.name, errNoLink)
}

// Heal does nothing: a loopback node is never cut.
func (n *loopbackNode) Heal(context.Context) error { return nil }
func (n *loopbackNode) IsCut() Direction           { return NoDirection }

func (n *loopbackNode) Capture(context.Context, io.Writer) error {
	return fmt.Errorf("cannot capture at %s: %w", n.name, errNoLink)
}
