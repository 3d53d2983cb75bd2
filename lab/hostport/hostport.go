// Package hostport opens the lab's doors on the host: listeners on the host's
// loopback and what carries their connections into a node.
package hostport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// BusyError means that another process listens where we want to.
type BusyError struct {
	Address string // what we wanted
	Process string // the holder's name; empty when we may not see it
	PID     int    // the holder's process ID; 0 when we may not see it
	UID     int    // the user who holds the address; -1 when not even that is known
}

func (e *BusyError) Error() string {
	switch {
	case e.PID != 0:
		return fmt.Sprintf("%s is in use by %s (pid %d)", e.Address, e.Process, e.PID)
	case e.UID >= 0:
		return fmt.Sprintf("%s is in use by a process of user %d, which this user may not look at", e.Address, e.UID)
	default:
		return fmt.Sprintf("%s is in use by a process that is not visible from here", e.Address)
	}
}

// Hint is what a person can do about it.
func (e *BusyError) Hint() string {
	return "stop that process, or start the lab on other ports: --port-offset 100"
}

// Unwrap returns EADDRINUSE.
func (e *BusyError) Unwrap() error { return syscall.EADDRINUSE }

// Listen listens on addr, a literal IP address and TCP port. When somebody else
// does already, the error is a *BusyError.
func Listen(addr string) (net.Listener, error) {
	want, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen: address %q: want a literal IP address and port: %w", addr, err)
	}
	listener, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, whoHolds(want)
	}
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return listener, nil
}
