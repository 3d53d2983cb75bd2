package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// router lies between the datacenters: a machine of its own with a link into each, that
// does nothing but forward. Partitions are made on it. No process runs there, and the
// lab's root, where the supervisor runs, has no address in any datacenter.
type router struct {
	thread    *thread
	namespace netns.NsHandle
}

// leg is the router's link into a datacenter.
type leg struct {
	name    string // inside the router
	address netip.Prefix
	index   int          // inside the router
	port    netlink.Link // the bridge's end
}

func newRouter() (*router, error) {
	r := &router{namespace: netns.None()}
	var err error
	if r.thread, err = startThread(r.enter); err != nil {
		return nil, errors.Join(fmt.Errorf("make the router: %w", err), r.close())
	}
	return r, nil
}

// enter moves the calling thread into a network namespace of its own that forwards.
func (r *router) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make namespace: %w", err)
	}
	var err error
	if r.namespace, err = netns.Get(); err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	if err := disableIPv6("default"); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("let it forward: %w", err)
	}
	return nil
}

// connect gives the router a link into a datacenter, with the address that the nodes
// there have as their gateway. Closing the datacenter's bridge leaves the link; remove
// it with its port.
func (r *router) connect(name string, bridge netlink.Link, address netip.Prefix) (leg, error) {
	port, err := addLink("to-"+name, bridge, r.namespace, name, address.Addr())
	if err != nil {
		return leg{}, err
	}
	inside, err := netlink.NewHandleAt(r.namespace, unix.NETLINK_ROUTE)
	if err != nil {
		return leg{}, fmt.Errorf("open netlink in the router: %w", err)
	}
	defer inside.Close()
	link, err := inside.LinkByName(name)
	if err != nil {
		return leg{}, fmt.Errorf("find %s in the router: %w", name, err)
	}
	if err := inside.AddrAdd(link, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
		return leg{}, fmt.Errorf("add address %s to the router: %w", address, err)
	}
	if err := inside.LinkSetUp(link); err != nil {
		return leg{}, fmt.Errorf("bring up %s in the router: %w", name, err)
	}
	return leg{name: name, address: address, index: link.Attrs().Index, port: port}, nil
}

// partition makes the router drop silently what goes into a datacenter from elsewhere,
// what its nodes send there, both or neither. What goes in meets no route; what comes out
// is not forwarded.
func (r *router) partition(l leg, cut cuts) error {
	inside, err := netlink.NewHandleAt(r.namespace, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in the router: %w", err)
	}
	defer inside.Close()
	forwarding := "1"
	route := &netlink.Route{
		Dst:       ipNet(l.address.Masked()),
		LinkIndex: l.index,
		Src:       l.address.Addr().AsSlice(),
		Scope:     netlink.SCOPE_LINK,
		Protocol:  unix.RTPROT_KERNEL,
	}
	if cut.out {
		forwarding = "0"
	}
	if cut.in {
		route = &netlink.Route{Dst: ipNet(l.address.Masked()), Type: unix.RTN_BLACKHOLE}
	}
	if err := inside.RouteReplace(route); err != nil {
		return fmt.Errorf("replace route to %s: %w", l.address.Masked(), err)
	}
	// Whose settings these are depends on the namespace of the thread that opens the file.
	file := "/proc/sys/net/ipv4/conf/" + l.name + "/forwarding"
	if gone := r.thread.do(func() { err = os.WriteFile(file, []byte(forwarding), 0) }); gone != nil {
		return fmt.Errorf("set forwarding: %w", gone)
	}
	if err != nil {
		return fmt.Errorf("set forwarding: %w", err)
	}
	return nil
}

func (r *router) close() error {
	if r.thread != nil {
		r.thread.stop()
	}
	if r.namespace.IsOpen() {
		return r.namespace.Close()
	}
	return nil
}
