// Package hostport opens the lab's doors on the host: listeners on the host's
// loopback and what carries their connections into a node.
package hostport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
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

// Bind takes addr, a literal IPv4 address and TCP port, and does not listen yet:
// whoever connects is refused. Serve listens. When somebody else listens there
// already, the error is a *BusyError. Somebody else may listen there between Bind
// and Serve; then Serve fails.
func Bind(addr string) (*os.File, error) {
	want, err := netip.ParseAddrPort(addr)
	if err != nil || !want.Addr().Is4() {
		return nil, fmt.Errorf("listen: address %q: want a literal IPv4 address and port: %w", addr, err)
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	file := os.NewFile(uintptr(socket), addr)
	err = unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(socket, &unix.SockaddrInet4{Addr: want.Addr().As4(), Port: int(want.Port())})
	}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, errors.Join(whoHolds(want), file.Close())
	case err != nil:
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", addr, err), file.Close())
	}
	return file, nil
}

// Serve listens on a socket that Bind has made, maybe after Refuse.
func Serve(socket *os.File) (net.Listener, error) {
	if err := control(socket, func(fd int) error { return unix.Listen(fd, unix.SOMAXCONN) }); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", socket.Name(), err)
	}
	return net.FileListener(socket)
}

// Refuse ends the listening on a socket, which stays bound: whoever connects from
// now on is refused.
func Refuse(socket *os.File) {
	// On Linux a listening socket that is shut down goes back to its state of before.
	_ = control(socket, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) })
}

func control(socket *os.File, do func(fd int) error) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}
