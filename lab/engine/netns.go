package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// netnsEngine makes nodes of network namespaces. The namespaces that it runs in are the
// lab's root: the bridges live there. What goes from one to another passes the router.
type netnsEngine struct {
	logger *slog.Logger
	router *router

	mu          sync.Mutex
	datacenters map[string]*datacenter
	nodes       []*netnsNode
	// ports and bridges are how many were made so far, for their names.
	ports, bridges int
	closed         bool
}

// datacenter is one bridge, with the router's link to it, which has the first address of
// the subnet.
type datacenter struct {
	name   string
	subnet netip.Prefix
	bridge netlink.Link
	leg    leg
	cut    cuts
}

// OpenNetns takes over the namespaces that Isolate made: it must run in PID 1 of
// them, and refuses to touch anything else. It mounts a /proc that shows the lab's
// processes alone, brings the loopback up and makes the router.
func OpenNetns(logger *slog.Logger) (Engine, error) {
	if os.Getpid() != 1 {
		return nil, errors.New("open netns engine: this process is not PID 1 of a lab: start it under Isolate")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	const hardened = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("proc", "/proc", "proc", hardened, ""); err != nil {
		return nil, fmt.Errorf("mount /proc: %w", err)
	}
	if err := disableIPv6("default"); err != nil {
		return nil, err
	}
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return nil, fmt.Errorf("bring up lo: %w", err)
	}
	router, err := newRouter()
	if err != nil {
		return nil, err
	}
	return &netnsEngine{logger: logger, router: router, datacenters: map[string]*datacenter{}}, nil
}

// disableIPv6 keeps links made from now on in the caller's network namespace
// without link-local addresses, which would be a second way to reach a node. The
// loopback keeps ::1. A kernel without IPv6 has nothing to disable.
func disableIPv6(scope string) error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+scope+"/disable_ipv6", []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("disable IPv6: %w", err)
	}
	return nil
}

func (e *netnsEngine) Kind() Kind      { return Netns }
func (e *netnsEngine) Segmented() bool { return true }

func (e *netnsEngine) Limits() []string {
	return []string{
		"Nodes are kept apart by their networks. They share the host's files, the lab's user and its process IDs: somebody with a shell in one node can read another's files and signal its processes.",
	}
}

func (e *netnsEngine) AddDatacenter(name string, subnet netip.Prefix) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return fmt.Errorf("add datacenter %s: the lab is closed", name)
	}
	if _, ok := e.datacenters[name]; ok {
		return fmt.Errorf("add datacenter %s: it exists", name)
	}
	if !subnet.Addr().Is4() {
		return fmt.Errorf("add datacenter %s: subnet %s is not IPv4", name, subnet)
	}
	e.bridges++
	bridgeName := fmt.Sprintf("br%d", e.bridges)
	bridge, err := addBridge(bridgeName)
	if err != nil {
		return fmt.Errorf("add datacenter %s: %w", name, err)
	}
	leg, err := e.router.connect(bridgeName, bridge, netip.PrefixFrom(subnet.Masked().Addr().Next(), subnet.Bits()))
	if err != nil {
		return errors.Join(fmt.Errorf("add datacenter %s: %w", name, err), netlink.LinkDel(bridge))
	}
	e.datacenters[name] = &datacenter{name: name, subnet: subnet.Masked(), bridge: bridge, leg: leg}
	return nil
}

func (e *netnsEngine) RemoveDatacenter(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	dc, ok := e.datacenters[name]
	if !ok {
		return fmt.Errorf("remove datacenter %q: there is none", name)
	}
	var errs []error
	e.nodes = slices.DeleteFunc(e.nodes, func(node *netnsNode) bool {
		inside := dc.subnet.Contains(node.spec.Address.Addr())
		if inside {
			errs = append(errs, node.close())
		}
		return inside
	})
	if err := dc.close(); err != nil {
		return errors.Join(append(errs, err)...)
	}
	delete(e.datacenters, name)
	return errors.Join(errs...)
}

// close removes the bridge and the router's link to it.
func (d *datacenter) close() error {
	var errs []error
	for _, link := range []netlink.Link{d.leg.port, d.bridge} {
		if err := netlink.LinkDel(link); err != nil {
			errs = append(errs, fmt.Errorf("remove %s of %s: %w", link.Attrs().Name, d.name, err))
		}
	}
	return errors.Join(errs...)
}

func (e *netnsEngine) AddNode(datacenterName string, spec NodeSpec) (Node, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, fmt.Errorf("add node %s: the lab is closed", spec.Name)
	}
	dc, ok := e.datacenters[datacenterName]
	if !ok {
		return nil, fmt.Errorf("add node %s: no datacenter %q", spec.Name, datacenterName)
	}
	if !dc.subnet.Contains(spec.Address.Addr()) {
		return nil, fmt.Errorf("add node %s: address %s is not in subnet %s", spec.Name, spec.Address.Addr(), dc.subnet)
	}
	for _, node := range e.nodes {
		if node.spec.Name == spec.Name || node.spec.Address.Addr() == spec.Address.Addr() {
			return nil, fmt.Errorf("add node %s at %s: taken by node %s at %s",
				spec.Name, spec.Address.Addr(), node.spec.Name, node.spec.Address.Addr())
		}
	}
	spec.Address = netip.PrefixFrom(spec.Address.Addr(), dc.subnet.Bits())
	e.ports++
	node, err := newNetnsNode(e.logger, spec, dc, fmt.Sprintf("port%d", e.ports))
	if err != nil {
		return nil, fmt.Errorf("add node %s: %w", spec.Name, err)
	}
	if err := e.introduceAll(node, dc); err != nil {
		return nil, errors.Join(fmt.Errorf("add node %s: %w", spec.Name, err), node.close())
	}
	e.nodes = append(e.nodes, node)
	return node, nil
}

// introduceAll makes a new node and its datacenter known to each other.
func (e *netnsEngine) introduceAll(node *netnsNode, dc *datacenter) error {
	own := node.spec.Address.Addr()
	if err := introduce(e.router.namespace, dc.leg.name, own); err != nil {
		return err
	}
	neighbours := []netip.Addr{dc.leg.address.Addr()}
	for _, other := range e.nodes {
		if !dc.subnet.Contains(other.spec.Address.Addr()) {
			continue
		}
		neighbours = append(neighbours, other.spec.Address.Addr())
		if err := introduce(other.namespace, "eth0", own); err != nil {
			return err
		}
	}
	return introduce(node.namespace, "eth0", neighbours...)
}

// CutDatacenter partitions a datacenter from the others, wholly or one way: the router
// drops what goes to it, what comes from it, or both, and tells nobody. Its nodes still
// reach each other. Cuts add up.
func (e *netnsEngine) CutDatacenter(_ context.Context, name string, direction Direction) error {
	return e.setPartition(name, func(now cuts) (cuts, error) { return now.with(direction) })
}

// HealDatacenter undoes CutDatacenter.
func (e *netnsEngine) HealDatacenter(_ context.Context, name string) error {
	return e.setPartition(name, func(cuts) (cuts, error) { return cuts{}, nil })
}

// IsDatacenterCut reports what is cut; NoDirection when nothing is.
func (e *netnsEngine) IsDatacenterCut(name string) Direction {
	e.mu.Lock()
	defer e.mu.Unlock()
	if dc, ok := e.datacenters[name]; ok {
		return dc.cut.direction()
	}
	return NoDirection
}

func (e *netnsEngine) setPartition(name string, change func(cuts) (cuts, error)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	dc, ok := e.datacenters[name]
	if !ok {
		return fmt.Errorf("partition datacenter %q: there is none", name)
	}
	wanted, err := change(dc.cut)
	if err == nil {
		err = e.router.partition(dc.leg, wanted)
	}
	if err != nil {
		return fmt.Errorf("partition datacenter %s: %w", name, err)
	}
	dc.cut = wanted
	return nil
}

func (e *netnsEngine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	var errs []error
	for _, node := range e.nodes {
		errs = append(errs, node.close())
	}
	for _, dc := range e.datacenters {
		errs = append(errs, dc.close())
	}
	return errors.Join(append(errs, e.router.close())...)
}
