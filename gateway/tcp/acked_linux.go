package tcp

import (
	"net"

	"golang.org/x/sys/unix"
)

// acked is how many bytes the peer of a socket has acknowledged, 0 where that is
// not known.
func acked(conn net.Conn) uint64 {
	socket, ok := socketOf(conn)
	if !ok {
		return 0
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0
	}
	n := uint64(0)
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = info.Bytes_acked
		}
	})
	return n
}
