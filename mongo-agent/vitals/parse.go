package vitals

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// stat is what one line of /proc/PID/stat or /proc/PID/task/TID/stat says here
// (proc_pid_stat(5)).
type stat struct {
	ID     int
	Name   string
	Letter byte
}

// parseStat reads a line of /proc/PID/stat. The name may hold anything, also
// spaces and parentheses, so it ends at the last closing one.
func parseStat(line []byte) (stat, error) {
	open, end := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("no name in parentheses in %.40q", line)
	}
	id, err := strconv.Atoi(string(bytes.TrimSpace(line[:open])))
	if err != nil || id <= 0 {
		return stat{}, fmt.Errorf("no process id at the start of %.40q", line)
	}
	rest := line[end+1:]
	if len(rest) < 2 || rest[0] != ' ' || (len(rest) > 2 && rest[2] != ' ' && rest[2] != '\n') {
		return stat{}, fmt.Errorf("no state letter after the name in %.40q", line)
	}
	letter := rest[1]
	if (letter < 'A' || letter > 'Z') && (letter < 'a' || letter > 'z') {
		return stat{}, fmt.Errorf("state %q is no letter", letter)
	}
	return stat{ID: id, Name: string(line[open+1 : end]), Letter: letter}, nil
}

// parseSwitches returns how often a thread was taken off a processor, from
// /proc/PID/task/TID/status. Two readings with the same number had the thread
// not run between them.
func parseSwitches(status []byte) (uint64, error) {
	total, seen := uint64(0), 0
	for line := range bytes.Lines(status) {
		name, value, _ := bytes.Cut(line, []byte{':'})
		if string(name) != "voluntary_ctxt_switches" && string(name) != "nonvoluntary_ctxt_switches" {
			continue
		}
		n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("context switches %.40q: %w", value, err)
		}
		total, seen = total+n, seen+1
	}
	if seen != 2 {
		return 0, fmt.Errorf("%d of 2 counts of context switches", seen)
	}
	return total, nil
}

// listener is one listening socket.
type listener struct {
	Address netip.AddrPort
	Inode   uint64
}

// stateListen is TCP_LISTEN (linux, include/net/tcp_states.h).
const stateListen = "0A"

// parseListeners returns the listening sockets of a text in the form of
// /proc/net/tcp or /proc/net/tcp6 (proc_net_tcp). Lines of other sockets are
// not looked into.
func parseListeners(table string) ([]listener, error) {
	var found []listener
	first := true
	for line := range strings.Lines(table) {
		if first { // the heading
			first = false
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[3] != stateListen {
			continue
		}
		address, err := parseAddress(fields[1])
		if err != nil {
			return nil, err
		}
		inode, err := strconv.ParseUint(fields[9], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("inode %.40q: %w", fields[9], err)
		}
		found = append(found, listener{address, inode})
	}
	return found, nil
}

// parseAddress reads "0100007F:69B1": each 32 bits of the address as a number
// of the machine, the port as a number.
func parseAddress(text string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	if err != nil || (len(raw) != 4 && len(raw) != 16) {
		return netip.AddrPort{}, fmt.Errorf("%.40q is no address", text)
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%.40q has no port", text)
	}
	address, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(address.Unmap(), uint16(number)), nil
}

// inodeOf returns which of the listeners a connection to address reaches: the
// one bound to it, else one bound to every address.
func inodeOf(listeners []listener, address netip.AddrPort) (inode uint64, found bool) {
	for _, l := range listeners {
		switch {
		case l.Address.Port() != address.Port():
		case l.Address.Addr() == address.Addr().Unmap():
			return l.Inode, true
		case l.Address.Addr().IsUnspecified():
			inode, found = l.Inode, true
		}
	}
	return inode, found
}
