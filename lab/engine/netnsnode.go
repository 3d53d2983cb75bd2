package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netnsNode is a set of namespaces and the link that plugs them in. Its thread
// lives in them for as long as the node does.
type netnsNode struct {
	spec      NodeSpec
	thread    *thread
	namespace netns.NsHandle
	port      netlink.Link // the bridge's end of the link

	mu     sync.Mutex
	cut    cuts
	closed bool
}

func newNetnsNode(logger *slog.Logger, spec NodeSpec, dc *datacenter, port string) (*netnsNode, error) {
	node := &netnsNode{spec: spec, namespace: netns.None()}
	var err error
	if node.thread, err = startThread(func() error { return node.enter(logger) }); err != nil {
		return nil, errors.Join(err, node.close())
	}
	if node.port, err = addLink(port, dc.bridge, node.namespace, "eth0", spec.Address.Addr()); err != nil {
		return nil, errors.Join(err, node.close())
	}
	if err := configureNode(node.namespace, spec, dc.leg.address.Addr()); err != nil {
		return nil, errors.Join(err, node.close())
	}
	return node, nil
}

// enter moves the calling thread into namespaces of its own.
func (n *netnsNode) enter(logger *slog.Logger) error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	var err error
	if n.namespace, err = netns.Get(); err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	if err := unix.Sethostname([]byte(n.spec.Name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := disableIPv6("default"); err != nil {
		return err
	}
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	// A node works without files of its own, only less comfortably.
	if err := overlayFiles(nodeFiles(n.spec)); err != nil {
		logger.Warn("a node keeps the host's files in /etc", "node", n.spec.Name, "error", err)
	}
	return nil
}

func (n *netnsNode) Name() string         { return n.spec.Name }
func (n *netnsNode) Address() netip.Addr  { return n.spec.Address.Addr() }
func (n *netnsNode) Loopback() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

func (n *netnsNode) Start(cmd *exec.Cmd) error {
	var err error
	if gone := n.thread.do(func() { err = cmd.Start() }); gone != nil {
		return fmt.Errorf("start in node %s: %w", n.spec.Name, gone)
	}
	return err
}

func (n *netnsNode) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if err := literal(network, address); err != nil {
		return nil, err
	}
	var conn net.Conn
	err := n.inside(func() (err error) {
		var dialer net.Dialer
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("from node %s: %w", n.spec.Name, err)
	}
	return conn, nil
}

// listen listens inside the node.
func (n *netnsNode) listen(network, address string) (net.Listener, error) {
	if err := literal(network, address); err != nil {
		return nil, err
	}
	var listener net.Listener
	err := n.inside(func() (err error) {
		listener, err = net.Listen(network, address)
		return err
	})
	return listener, err
}

// literal refuses what the net package would hand to other goroutines, and so to
// threads outside the node: names, and networks with more than one try.
func literal(network, address string) error {
	switch network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
	default:
		return fmt.Errorf("network %q: want tcp or udp", network)
	}
	if _, err := netip.ParseAddrPort(address); err != nil {
		return fmt.Errorf("address %q: want a literal IP address and port: %w", address, err)
	}
	return nil
}

// inside runs work on a thread of its own in the node's network namespace, so that
// work that waits holds up nobody. A socket stays in the namespace it was made in.
func (n *netnsNode) inside(work func() error) error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return errThreadEnded
	}
	// A handle of our own: close may close the node's while we are on our way.
	handle, err := unix.FcntlInt(uintptr(n.namespace), unix.F_DUPFD_CLOEXEC, 0)
	n.mu.Unlock()
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer unix.Close(handle)
	visitor, err := startThread(func() error {
		if err := unix.Setns(handle, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	defer visitor.stop()
	var workErr error
	if err := visitor.do(func() { workErr = work() }); err != nil {
		return err
	}
	return workErr
}

func (n *netnsNode) Capture(ctx context.Context, w io.Writer) error {
	if err := capture(ctx, n.port.Attrs().Index, w); err != nil {
		return fmt.Errorf("capture at node %s: %w", n.spec.Name, err)
	}
	return nil
}

func (n *netnsNode) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed = true
	var errs []error
	if n.port != nil {
		if err := netlink.LinkDel(n.port); err != nil {
			errs = append(errs, fmt.Errorf("remove link of node %s: %w", n.spec.Name, err))
		}
	}
	if n.thread != nil {
		n.thread.stop()
	}
	if n.namespace.IsOpen() {
		errs = append(errs, n.namespace.Close())
	}
	return errors.Join(errs...)
}
