package lab_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/internal/labtest"
	"sluice/lab"
)

// host is what a lab could leave behind on the host.
type host struct{ interfaces, mounts []string }

func lookAtHost(t *testing.T) host {
	t.Helper()
	return host{
		interfaces: fields(t, "/proc/net/dev", func(line string) (string, bool) {
			name, _, ok := strings.Cut(strings.TrimSpace(line), ":")
			return name, ok
		}),
		mounts: fields(t, "/proc/self/mountinfo", func(line string) (string, bool) {
			words := strings.Fields(line)
			if len(words) < 5 {
				return "", false
			}
			return words[4], true
		}),
	}
}

func fields(t *testing.T, path string, field func(string) (string, bool)) []string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(content)) {
		if value, ok := field(line); ok {
			all = append(all, value)
		}
	}
	slices.Sort(all)
	return all
}

// running is one process for good: an ID may be given again, with another start.
type running struct {
	pid     int
	started string
}

// tree returns the process and everything below it.
func tree(t *testing.T, root int) []running {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int][]int{}
	started := map[int]string{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if parent, start, ok := stat(pid); ok {
			children[parent] = append(children[parent], pid)
			started[pid] = start
		}
	}
	var all []running
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		all = append(all, running{pid: queue[0], started: started[queue[0]]})
		queue = append(queue, children[queue[0]]...)
	}
	return all
}

// stat returns a process's parent and start (proc_pid_stat(5)). A zombie is gone:
// all that is left of it is its parent's to collect.
func stat(pid int) (parent int, started string, ok bool) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", false
	}
	words := strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
	if len(words) < 20 || words[0] == "Z" {
		return 0, "", false
	}
	parent, err = strconv.Atoi(words[1])
	return parent, words[19], err == nil
}

func (r running) alive() bool {
	_, started, ok := stat(r.pid)
	return ok && started == r.started
}

// options reads how the lab was started.
func options(t *testing.T, l *labtest.Lab) lab.Options {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(l.State, "lab.json"))
	if err != nil {
		t.Fatal(err)
	}
	var read lab.Options
	if err := json.Unmarshal(content, &read); err != nil {
		t.Fatal(err)
	}
	return read
}

// trace is what there was of a lab while it ran.
type trace struct {
	lab       *labtest.Lab
	before    host
	processes []running
	index     int
}

// traceOf notes everything of a running lab that must be gone when it has ended.
func traceOf(t *testing.T, l *labtest.Lab, before host) trace {
	t.Helper()
	options := options(t, l)
	processes := tree(t, options.PID)
	if len(processes) < 15 {
		t.Fatalf("only %d processes belong to supervisor %d", len(processes), options.PID)
	}
	return trace{lab: l, before: before, processes: processes, index: options.Index}
}

// wantGone fails the test unless nothing of the lab is left, within a few seconds.
func (tr trace) wantGone(t *testing.T) {
	t.Helper()
	tr.wantProcessesGone(t)
	// A killed process is a zombie while the kernel still closes what it had open.
	labtest.Eventually(t, 5*time.Second, "nobody listens where the lab did", func() error {
		if left := listeners(t, tr.index); tr.lab.Engine == "loopback" && len(left) > 0 {
			return fmt.Errorf("on the lab's loopback addresses: %v", left)
		}
		return portsFree(tr.lab)
	})
}

// wantProcessesGone is wantGone for when a port is held by somebody else.
func (tr trace) wantProcessesGone(t *testing.T) {
	t.Helper()
	// A killed mongod lives until the disk has done what it was asked: on a busy
	// disk that takes longer than anything else here.
	labtest.Eventually(t, 30*time.Second, "no process of the lab is left", func() error {
		if left := tr.lab.Processes(); len(left) > 0 {
			return fmt.Errorf("left: %s", strings.Join(left, "\n"))
		}
		for _, process := range tr.processes {
			if process.alive() {
				return fmt.Errorf("pid %d is left", process.pid)
			}
		}
		return nil
	})
	now := lookAtHost(t)
	if !slices.Equal(now.interfaces, tr.before.interfaces) {
		t.Errorf("network interfaces: %v before, %v after", tr.before.interfaces, now.interfaces)
	}
	if !slices.Equal(now.mounts, tr.before.mounts) {
		t.Errorf("mounts: %v before, %v after", tr.before.mounts, now.mounts)
	}
}

// portsFree returns an error when somebody listens at a host port of the lab.
func portsFree(l *labtest.Lab) error {
	for _, port := range []int{9999, 9998, 8500} {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+l.Offset))
		if err != nil {
			return fmt.Errorf("port %d of the host is still taken: %w", port+l.Offset, err)
		}
		_ = listener.Close()
	}
	return nil
}

// wantNoDoor fails the test when the control socket or the notes on a running lab
// are left.
func wantNoDoor(t *testing.T, l *labtest.Lab) {
	t.Helper()
	for _, name := range []string{"control.sock", "lab.json"} {
		if _, err := os.Lstat(filepath.Join(l.State, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left (%v)", name, err)
		}
	}
}

// listeners returns what listens on 127.INDEX.*.* of the host (proc_net_tcp(5):
// the address is in the machine's byte order).
func listeners(t *testing.T, index int) []string {
	t.Helper()
	return fields(t, "/proc/net/tcp", func(line string) (string, bool) {
		words := strings.Fields(line)
		if len(words) < 4 || words[3] != "0A" {
			return "", false
		}
		return words[1], strings.HasPrefix(words[1][4:], fmt.Sprintf("%02X7F:", index))
	})
}
