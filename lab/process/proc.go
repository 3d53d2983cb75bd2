package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Memory returns the proportional set size of a process in bytes, from
// /proc/PID/smaps_rollup.
func Memory(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory of pid %d: %w", pid, err)
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "Pss:" {
			kilobytes, err := strconv.ParseUint(fields[1], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read memory of pid %d: %w", pid, err)
			}
			return kilobytes << 10, nil
		}
	}
	return 0, fmt.Errorf("read memory of pid %d: no Pss in smaps_rollup", pid)
}

// status is the part of /proc/PID/stat that this package reads.
type status struct {
	state   byte // R, S, D, T (halted by a signal), Z (zombie), ...
	parent  int
	started uint64 // in ticks since boot; with the ID it names a process for good
}

func readStatus(pid int) (status, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return status{}, err
	}
	return parseStatus(data)
}

// parseStatus reads a line of proc_pid_stat(5). The command's name, in
// parentheses, may hold anything, parentheses and spaces too.
func parseStatus(line []byte) (status, error) {
	end := bytes.LastIndexByte(line, ')')
	if end < 0 {
		return status{}, fmt.Errorf("parse process status %q: no command", line)
	}
	fields := strings.Fields(string(line[end+1:]))
	const parent, started = 1, 19 // counted from the state, which is field 3
	if len(fields) <= started || len(fields[0]) != 1 {
		return status{}, fmt.Errorf("parse process status %q: too short", line)
	}
	s := status{state: fields[0][0]}
	var err error
	if s.parent, err = strconv.Atoi(fields[parent]); err != nil {
		return status{}, fmt.Errorf("parse process status: %w", err)
	}
	if s.started, err = strconv.ParseUint(fields[started], 10, 64); err != nil {
		return status{}, fmt.Errorf("parse process status: %w", err)
	}
	return s, nil
}

// halted reports whether a process was stopped by a signal.
func halted(pid int) bool {
	s, err := readStatus(pid)
	return err == nil && s.state == 'T'
}
