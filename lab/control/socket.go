package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxPath is how long a socket's path may be (unix(7): 108 bytes with the end).
const maxPath = 107

// Listen makes the socket at path, in place of one that nobody answers at. The
// folder must belong to the caller and be closed to all others. When a lab
// answers, the error is ErrRunning. Closing the listener leaves the file: the
// process that inherits the listener may still serve it.
func Listen(path string) (*net.UnixListener, error) {
	folder, err := openFolder(path)
	if err != nil {
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	defer folder.Close()
	// Two callers must not both find a dead socket and remove each other's new one.
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %s: %w", filepath.Dir(path), err)
	}
	address := shorten(folder, path)
	switch conn, err := net.Dial("unix", address); {
	case err == nil:
		_ = conn.Close()
		return nil, ErrRunning
	case errors.Is(err, unix.ECONNREFUSED):
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove dead control socket: %w", err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	config := net.ListenConfig{Control: closedToOthers}
	listener, err := config.Listen(context.Background(), "unix", address)
	if err != nil {
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	unixListener := listener.(*net.UnixListener)
	unixListener.SetUnlinkOnClose(false)
	return unixListener, nil
}

// openFolder opens the folder of a socket that is to be made and checks who may
// enter it.
func openFolder(path string) (*os.File, error) {
	folder, err := os.OpenFile(filepath.Dir(path), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	info, err := folder.Stat()
	if err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if info.Mode().Perm()&0o077 != 0 || int(owner) != os.Geteuid() {
		_ = folder.Close()
		return nil, fmt.Errorf("folder %s is open to others (mode %04o, owner %d): chmod 0700 it",
			filepath.Dir(path), info.Mode().Perm(), owner)
	}
	return folder, nil
}

// closedToOthers sets the mode that bind gives to the socket's file: set later,
// it would come too late.
func closedToOthers(_, _ string, connection syscall.RawConn) error {
	var modeErr error
	err := connection.Control(func(fd uintptr) { modeErr = unix.Fchmod(int(fd), 0o600) })
	return errors.Join(err, modeErr)
}

// shorten returns a name of the socket that fits into an address. It is good for
// as long as folder is open.
func shorten(folder *os.File, path string) string {
	if len(path) <= maxPath {
		return path
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), filepath.Base(path))
}

// ListenerFromFile takes over a listener that was inherited. It closes file.
func ListenerFromFile(file *os.File) (*net.UnixListener, error) {
	defer file.Close()
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("take over control socket: %w", err)
	}
	unixListener, ok := listener.(*net.UnixListener)
	if !ok {
		_ = listener.Close()
		return nil, fmt.Errorf("take over control socket: it is a %s socket", listener.Addr().Network())
	}
	unixListener.SetUnlinkOnClose(false)
	return unixListener, nil
}

// dial connects to the socket at path.
func dial(ctx context.Context, path string) (*net.UnixConn, error) {
	folder, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	defer folder.Close()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", shorten(folder, path))
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return nil, ErrNotRunning
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("open control socket %s: %w: run as the user who started the lab", path, os.ErrPermission)
	case err != nil:
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	return conn.(*net.UnixConn), nil
}

// checkPeer refuses a peer that is neither this process's user nor root. Inside a
// user namespace the user who started the lab reads as this process's own, and
// everybody else, the host's root too, as a user that does not exist.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var credentials *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		credentials, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return fmt.Errorf("read peer credentials: %w", credErr)
	}
	return judgePeer(credentials.Uid, uint32(os.Geteuid()))
}

func judgePeer(peer, own uint32) error {
	if peer == own || peer == 0 {
		return nil
	}
	return &Error{
		Message: fmt.Sprintf("user %d may not command this lab", peer),
		Code:    codeUsage,
		Hint:    "run as the user who started the lab",
	}
}
