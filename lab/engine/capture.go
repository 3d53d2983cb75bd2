package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes of a capture, in bytes. A frame on a virtual link is a whole segment
// before it is cut up: up to 64 KiB and its headers.
const (
	captureSnapLength = 256 << 10
	captureBuffer     = 16 << 20
)

// capture writes the frames that an interface of the calling process's network
// namespace sends and receives, in the classic pcap format with microseconds
// (link type 1, Ethernet).
func capture(ctx context.Context, index int, w io.Writer) error {
	file, err := openCapture(index)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := w.Write(pcapHeader()); err != nil {
		return fmt.Errorf("write pcap header: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	record := make([]byte, 16+captureSnapLength)
	for {
		n, err := file.Read(record[16:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return captureLoss(file)
		}
		if err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		pcapRecord(record, n, time.Now())
		if _, err := w.Write(record[:16+n]); err != nil {
			return fmt.Errorf("write frame: %w", err)
		}
	}
}

// openCapture returns a packet socket that is bound to an interface.
func openCapture(index int) (*os.File, error) {
	// Protocol 0 receives nothing until bind names the interface: otherwise frames
	// of every interface would arrive in between.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), "packet socket")
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer); err != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, captureBuffer) // as much as allowed; loss is counted
	}
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("bind packet socket: %w", err)
	}
	return file, nil
}

// captureLoss returns an error if the kernel dropped frames for want of room.
func captureLoss(file *os.File) error {
	connection, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var statistics *unix.TpacketStats
	var statErr error
	if err := connection.Control(func(fd uintptr) {
		statistics, statErr = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	}); err != nil {
		return err
	}
	if statErr != nil {
		return fmt.Errorf("read packet statistics: %w", statErr)
	}
	if statistics.Drops > 0 {
		return fmt.Errorf("%d of %d frames were lost", statistics.Drops, statistics.Packets)
	}
	return nil
}

func pcapHeader() []byte {
	header := make([]byte, 24)
	binary.LittleEndian.PutUint32(header[0:], 0xa1b2c3d4)
	binary.LittleEndian.PutUint16(header[4:], 2)
	binary.LittleEndian.PutUint16(header[6:], 4)
	binary.LittleEndian.PutUint32(header[16:], captureSnapLength)
	binary.LittleEndian.PutUint32(header[20:], 1)
	return header
}

// pcapRecord fills the 16 bytes before a frame of n bytes.
func pcapRecord(record []byte, n int, at time.Time) {
	binary.LittleEndian.PutUint32(record[0:], uint32(at.Unix()))
	binary.LittleEndian.PutUint32(record[4:], uint32(at.Nanosecond()/1000))
	binary.LittleEndian.PutUint32(record[8:], uint32(n))
	binary.LittleEndian.PutUint32(record[12:], uint32(n))
}
