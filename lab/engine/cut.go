package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Direction is a way that frames go, as seen from the node.
type Direction string

// The directions of a cut.
const (
	NoDirection Direction = ""
	Both        Direction = "both"
	In          Direction = "in"  // frames to the node
	Out         Direction = "out" // frames from the node
)

// cuts are the directions in which a node is cut.
type cuts struct{ in, out bool }

// with returns c and also direction.
func (c cuts) with(direction Direction) (cuts, error) {
	switch direction {
	case Both:
		return cuts{in: true, out: true}, nil
	case In:
		return cuts{in: true, out: c.out}, nil
	case Out:
		return cuts{in: c.in, out: true}, nil
	case NoDirection:
	}
	return c, fmt.Errorf("direction %q: want both, in or out", direction)
}

func (c cuts) direction() Direction {
	switch {
	case c.in && c.out:
		return Both
	case c.in:
		return In
	case c.out:
		return Out
	default:
		return NoDirection
	}
}

func (n *netnsNode) Cut(_ context.Context, direction Direction) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	wanted, err := n.cut.with(direction)
	if err != nil {
		return fmt.Errorf("unplug node %s: %w", n.spec.Name, err)
	}
	return n.setCuts(wanted)
}

func (n *netnsNode) Heal(context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.setCuts(cuts{})
}

func (n *netnsNode) IsCut() Direction {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut.direction()
}

// setCuts brings the link to a state. What was done stays noted when the rest
// fails, so that it can be healed. n.mu is held.
func (n *netnsNode) setCuts(wanted cuts) error {
	if n.closed {
		return fmt.Errorf("unplug node %s: %w", n.spec.Name, errThreadEnded)
	}
	if n.cut.in != wanted.in {
		if err := n.swallowInbound(wanted.in); err != nil {
			return fmt.Errorf("unplug node %s: %w", n.spec.Name, err)
		}
		n.cut.in = wanted.in
	}
	if n.cut.out != wanted.out {
		if err := n.swallowOutbound(wanted.out); err != nil {
			return fmt.Errorf("unplug node %s: %w", n.spec.Name, err)
		}
		n.cut.out = wanted.out
	}
	return nil
}

// swallowInbound works at the bridge's end of the link, which sends what goes to
// the node.
func (n *netnsNode) swallowInbound(swallow bool) error {
	root, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer root.Close()
	return setBlackhole(root, n.port, swallow)
}

// swallowOutbound works at the node's own end.
func (n *netnsNode) swallowOutbound(swallow bool) error {
	inside, err := netlink.NewHandleAt(n.namespace, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in the node: %w", err)
	}
	defer inside.Close()
	eth0, err := inside.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	return setBlackhole(inside, eth0, swallow)
}

// setBlackhole makes a link swallow all that is sent on it, or undoes that. The
// queueing discipline "blackhole" is part of every kernel that has queueing
// disciplines at all, and reports what it drops as sent, so that the sender's own
// kernel is not told either.
func setBlackhole(handle *netlink.Handle, link netlink.Link, swallow bool) error {
	discipline := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(1, 0)},
		QdiscType:  "blackhole",
	}
	if !swallow {
		if err := handle.QdiscDel(discipline); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("let %s send again: %w", link.Attrs().Name, err)
		}
		return nil
	}
	if err := handle.QdiscReplace(discipline); err != nil {
		return fmt.Errorf("cannot, because this kernel does not make %s swallow frames (CONFIG_NET_SCHED): %w", link.Attrs().Name, err)
	}
	return nil
}
