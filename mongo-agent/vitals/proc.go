package vitals

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// errNotListening means that nobody listens on the address in this network
// namespace.
var errNotListening = errors.New("nothing listens")

// resolve returns the address of a "host:port".
func resolve(ctx context.Context, address string) (netip.AddrPort, error) {
	if parsed, err := netip.ParseAddrPort(address); err == nil {
		return parsed, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(found[0].Unmap(), uint16(number)), nil
}

// dial returns errNotListening if a connection to the address is refused.
func dial(ctx context.Context, address netip.AddrPort) error {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", address.String())
	if errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("%w on %s", errNotListening, address)
	}
	if err == nil {
		conn.Close()
	}
	return nil // a full queue is somebody's
}

// listening returns the inode of the socket that listens on address in this
// network namespace; errNotListening if there is none.
func listening(address netip.AddrPort) (uint64, error) {
	var all []listener
	for _, table := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		text, err := os.ReadFile(table)
		if errors.Is(err, fs.ErrNotExist) && table != "/proc/thread-self/net/tcp" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return 0, err
		}
		found, err := parseListeners(string(text))
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", table, err)
		}
		all = append(all, found...)
	}
	inode, found := inodeOf(all, address)
	if !found {
		return 0, fmt.Errorf("%w on %s", errNotListening, address)
	}
	return inode, nil
}

// owner returns the one process, of those whose descriptors may be looked at,
// that holds the socket, and the path of the descriptor.
func owner(inode uint64) (pid int, descriptor string, err error) {
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return 0, "", err
	}
	for _, process := range processes {
		id, err := strconv.Atoi(process.Name())
		if err != nil {
			continue
		}
		path := holds(id, inode)
		switch {
		case path == "":
		case pid != 0:
			return 0, "", fmt.Errorf("processes %d and %d share the listening socket", pid, id)
		default:
			pid, descriptor = id, path
		}
	}
	if pid == 0 {
		return 0, "", errors.New("no process whose descriptors may be looked at holds the listening socket: " +
			"it belongs to another user or another PID namespace, or /proc hides it")
	}
	return pid, descriptor, nil
}

// holds returns the path of a process's descriptor for a socket, or nothing.
func holds(pid int, inode uint64) string {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	folder, err := os.Open(dir)
	if err != nil {
		return ""
	}
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return ""
	}
	for _, name := range names {
		if path := dir + "/" + name; refers(path, inode) {
			return path
		}
	}
	return ""
}

func refers(descriptor string, inode uint64) bool {
	target, err := os.Readlink(descriptor)
	return err == nil && target == "socket:["+strconv.FormatUint(inode, 10)+"]"
}

// process is one process that is looked at. One goroutine may use it.
type process struct {
	pid  int
	stat *os.File // the leader's /proc/PID/task/PID/stat, read again and again
	line [512]byte
	text [4096]byte
	// pidfd becomes readable when the process ends; -1 without pidfd_open (Linux
	// before 5.3), then the next reading tells.
	pidfd int
}

// open holds on to the process that listens on the inode.
func open(inode uint64) (*process, error) {
	pid, descriptor, err := owner(inode)
	if err != nil {
		return nil, err
	}
	p := &process{pid: pid, pidfd: -1}
	// The leader's own entry is cheaper than /proc/PID/stat, which adds up the
	// times of all threads.
	p.stat, err = os.Open(fmt.Sprintf("/proc/%d/task/%d/stat", pid, pid))
	if err != nil {
		return nil, fmt.Errorf("look at process %d: %w", pid, err)
	}
	p.pidfd, err = unix.PidfdOpen(pid, 0)
	if err != nil {
		p.pidfd = -1
	}
	if err != nil && !errors.Is(err, unix.ENOSYS) {
		p.close()
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	// The number may have been another process's by the time of the two opens.
	if !refers(descriptor, inode) {
		p.close()
		return nil, fmt.Errorf("process %d no longer holds the listening socket", pid)
	}
	return p, nil
}

func (p *process) close() {
	p.stat.Close()
	if p.pidfd >= 0 {
		unix.Close(p.pidfd)
	}
}

// wait returns after d, or earlier when the process ends. It blocks a thread,
// which costs less than half of what a ticker and the runtime's poller do.
func (p *process) wait(d time.Duration) (ended bool) {
	deadline := time.Now().Add(d)
	for {
		// Without a pidfd the number is negative, and poll passes it over.
		fds := []unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}
		left := time.Until(deadline)
		n, err := unix.Poll(fds, int(max(0, left).Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// letter returns the state letter of the leader; an error means that the
// process is no more.
func (p *process) letter() (byte, error) {
	n, err := p.stat.ReadAt(p.line[:], 0)
	if n == 0 {
		return 0, err
	}
	s, err := parseStat(p.line[:n])
	return s.Letter, err
}

// waiting returns the threads that are in an uninterruptible wait. One that
// ends meanwhile is not among them.
func (p *process) waiting() ([]thread, error) {
	dir := fmt.Sprintf("/proc/%d/task/", p.pid)
	folder, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := folder.Readdirnames(-1)
	folder.Close()
	if err != nil {
		return nil, err
	}
	var found []thread
	for _, name := range names {
		n, err := p.slurp(dir + name + "/stat")
		if err != nil {
			continue
		}
		s, err := parseStat(p.text[:n])
		if err != nil || s.Letter != 'D' {
			continue
		}
		if n, err = p.slurp(dir + name + "/status"); err != nil {
			continue
		}
		switches, err := parseSwitches(p.text[:n])
		if err != nil {
			continue
		}
		found = append(found, thread{ID: s.ID, Name: s.Name, Switches: switches})
	}
	return found, nil
}

// slurp reads a small file of /proc into the process's buffer. It goes past
// package os, which would offer each file to the poller: half of the cost.
func (p *process) slurp(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return unix.Read(fd, p.text[:])
}
