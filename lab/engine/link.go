package engine

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// hardwareAddress derives a stable, locally administered address, so that a
// capture can be read without a table.
func hardwareAddress(address netip.Addr) net.HardwareAddr {
	a := address.As4()
	return net.HardwareAddr{0x02, 0x00, a[0], a[1], a[2], a[3]}
}

func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{
		IP:   prefix.Addr().AsSlice(),
		Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
	}
}

// addBridge makes a bridge that is up and has no address.
func addBridge(name string) (netlink.Link, error) {
	snooping := false
	bridge := &netlink.Bridge{
		LinkAttrs:         netlink.LinkAttrs{Name: name, TxQLen: -1},
		MulticastSnooping: &snooping,
	}
	if err := netlink.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("add bridge %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return nil, fmt.Errorf("bring up bridge %s: %w", name, err)
	}
	return bridge, nil
}

// addLink makes a link between the bridge and namespace: port on this side, on the other
// one that is named peer and has the hardware address of address. It returns the port.
func addLink(port string, bridge netlink.Link, namespace netns.NsHandle, peer string, address netip.Addr) (netlink.Link, error) {
	veth := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: port, MasterIndex: bridge.Attrs().Index, TxQLen: -1},
		PeerName:         peer,
		PeerHardwareAddr: hardwareAddress(address),
		PeerNamespace:    netlink.NsFd(namespace),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("add link %s: %w", port, err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return nil, fmt.Errorf("bring up link %s: %w", port, err)
	}
	return veth, nil
}

// configureNode gives the inside of a node its addresses and its default route.
func configureNode(namespace netns.NsHandle, spec NodeSpec, router netip.Addr) error {
	handle, err := netlink.NewHandleAt(namespace, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in the node: %w", err)
	}
	defer handle.Close()
	loopback, err := handle.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	for _, extra := range spec.Extra {
		if err := handle.AddrAdd(loopback, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(extra, extra.BitLen()))}); err != nil {
			return fmt.Errorf("add loopback address %s: %w", extra, err)
		}
	}
	eth0, err := handle.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	if err := handle.AddrAdd(eth0, &netlink.Addr{IPNet: ipNet(spec.Address)}); err != nil {
		return fmt.Errorf("add address %s: %w", spec.Address, err)
	}
	if err := handle.LinkSetUp(eth0); err != nil {
		return fmt.Errorf("bring up eth0: %w", err)
	}
	route := &netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: router.AsSlice()}
	if err := handle.RouteAdd(route); err != nil {
		return fmt.Errorf("add default route via %s: %w", router, err)
	}
	return nil
}

// introduce tells a node, or the router, which hardware address a neighbour has, for
// good. With nothing left to ask for on the link, a node that is cut looks to others like
// silence, however long they wait; without this they would hear "no route to host" after
// three seconds.
func introduce(namespace netns.NsHandle, link string, neighbours ...netip.Addr) error {
	handle, err := netlink.NewHandleAt(namespace, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in the node: %w", err)
	}
	defer handle.Close()
	device, err := handle.LinkByName(link)
	if err != nil {
		return fmt.Errorf("find %s: %w", link, err)
	}
	for _, neighbour := range neighbours {
		entry := &netlink.Neigh{
			LinkIndex:    device.Attrs().Index,
			State:        netlink.NUD_PERMANENT,
			IP:           neighbour.AsSlice(),
			HardwareAddr: hardwareAddress(neighbour),
		}
		if err := handle.NeighSet(entry); err != nil {
			return fmt.Errorf("add neighbour %s: %w", neighbour, err)
		}
	}
	return nil
}
