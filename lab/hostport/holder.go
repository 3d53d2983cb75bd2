package hostport

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// socket is a line of /proc/net/tcp: a listening socket.
type socket struct {
	local netip.AddrPort
	uid   int
	inode string
}

// whoHolds finds the process that listens at want, or where it is in want's way.
func whoHolds(want netip.AddrPort) *BusyError {
	busy := &BusyError{Address: want.String(), UID: -1}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		file, err := os.Open(table)
		if err != nil {
			continue // a kernel without IPv6 has no tcp6
		}
		sockets, _ := parseListeners(file) // what could be read is better than nothing
		_ = file.Close()
		for _, s := range sockets {
			if !inTheWay(s.local, want) {
				continue
			}
			busy.UID = s.uid
			if pid, ok := owner("/proc", s.inode); ok {
				busy.PID, busy.Process = pid, commandName("/proc", pid)
				return busy
			}
		}
	}
	return busy
}

// inTheWay reports whether a socket that listens at held keeps another from
// listening at want. An address that names all addresses is in the way of each.
func inTheWay(held, want netip.AddrPort) bool {
	if held.Port() != want.Port() {
		return false
	}
	a, b := held.Addr().Unmap(), want.Addr().Unmap()
	return a == b || a.IsUnspecified() || b.IsUnspecified()
}

// parseListeners reads the listening sockets of a table in the form of
// /proc/net/tcp (proc_net(5)).
func parseListeners(table io.Reader) ([]socket, error) {
	const listening = "0A"
	var sockets []socket
	scanner := bufio.NewScanner(table)
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) < 10 || fields[3] != listening {
			continue
		}
		local, err := parseAddress(fields[1])
		if err != nil {
			return sockets, err
		}
		uid, err := strconv.Atoi(fields[7])
		if err != nil {
			return sockets, fmt.Errorf("parse user %q: %w", fields[7], err)
		}
		sockets = append(sockets, socket{local: local, uid: uid, inode: fields[9]})
	}
	return sockets, scanner.Err()
}

// parseAddress reads "0100007F:270F": words of the address in the machine's own
// byte order, the port in plain hexadecimal.
func parseAddress(text string) (netip.AddrPort, error) {
	address, port, ok := strings.Cut(text, ":")
	raw, err := hex.DecodeString(address)
	if err != nil || !ok || (len(raw) != 4 && len(raw) != 16) {
		return netip.AddrPort{}, fmt.Errorf("parse address %q", text)
	}
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("parse port of %q: %w", text, err)
	}
	for word := raw; len(word) > 0; word = word[4:] {
		binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
	}
	ip, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(ip, uint16(number)), nil
}

// owner finds a process that has a socket open. It sees the processes of its own
// user, and of everybody if it is root's.
func owner(proc, inode string) (int, bool) {
	if inode == "0" {
		return 0, false
	}
	want := "socket:[" + inode + "]"
	processes, err := os.ReadDir(proc)
	if err != nil {
		return 0, false
	}
	for _, entry := range processes {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		folder := filepath.Join(proc, entry.Name(), "fd")
		descriptors, err := os.ReadDir(folder)
		if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		for _, descriptor := range descriptors {
			if target, err := os.Readlink(filepath.Join(folder, descriptor.Name())); err == nil && target == want {
				return pid, true
			}
		}
	}
	return 0, false
}

func commandName(proc string, pid int) string {
	name, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "comm"))
	if err != nil {
		return "a process that has just ended"
	}
	return string(bytes.TrimSpace(name))
}
