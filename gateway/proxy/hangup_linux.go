package proxy

import "golang.org/x/sys/unix"

// hungUp reports whether the peer of a socket has ended, be it behind bytes that
// nobody has read.
func hungUp(fd uintptr) bool {
	const ended = unix.POLLRDHUP | unix.POLLHUP | unix.POLLERR
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&ended != 0
}
