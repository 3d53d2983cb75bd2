package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// links returns the network interfaces of this process's namespace.
func links(t *testing.T) []string {
	t.Helper()
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range interfaces {
		names = append(names, i.Name)
	}
	return names
}

// mounts returns the mount points of this process's namespace.
func mounts(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestKillingTheSupervisorLeavesNothing(t *testing.T) {
	path := testBinary(t)
	for _, m := range modes(t) {
		t.Run(m.name, func(t *testing.T) {
			linksBefore, mountsBefore := links(t), mounts(t)
			mark := fmt.Sprintf("%s-%d-%d", m.name, os.Getpid(), time.Now().UnixNano())
			cmd := m.command(t, path, argLaunch, fmt.Sprint(m.unprivileged), argLab)
			cmd.Env = append(os.Environ(), "SLUICE_TEST_MARK="+mark)
			stderr := new(bytes.Buffer)
			cmd.Stderr = stderr
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			awaitLine(t, stdout, "up")
			eventually(t, "the launcher, PID 1, two shells and what they started run",
				func() bool { return len(marked(t, mark)) >= 6 })
			if got := links(t); !slices.Equal(got, linksBefore) {
				t.Errorf("the host has links %v while a lab runs, before it had %v", got, linksBefore)
			}
			supervisor := childOf(t, cmd.Process.Pid)
			namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", supervisor))
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			eventually(t, "no process of the lab is left", func() bool { return len(marked(t, mark)) == 0 })
			eventually(t, "no process is left in the lab's namespace", func() bool { return !inhabited(t, namespace) })
			if got := links(t); !slices.Equal(got, linksBefore) {
				t.Errorf("the host has links %v after a lab was killed, before it had %v", got, linksBefore)
			}
			if got := mounts(t); got != mountsBefore {
				t.Errorf("the host has mounts\n%s\nafter a lab was killed, before it had\n%s", got, mountsBefore)
			}
		})
	}
}

// childOf returns the one child of a process.
func childOf(t *testing.T, pid int) int {
	t.Helper()
	var child int
	eventually(t, "the launcher has a child", func() bool {
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, stat := range stats {
			data, _ := os.ReadFile(stat)
			var id, parent int
			var state string
			end := bytes.LastIndexByte(data, ')')
			if end < 0 {
				continue
			}
			_, _ = fmt.Sscanf(string(data), "%d", &id)
			_, _ = fmt.Sscanf(string(data[end+1:]), "%s %d", &state, &parent)
			if parent == pid {
				child = id
				return true
			}
		}
		return false
	})
	return child
}

// inhabited reports whether a process lives in a network namespace.
func inhabited(t *testing.T, namespace string) bool {
	t.Helper()
	spaces, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(spaces, func(path string) bool {
		target, _ := os.Readlink(path)
		return target == namespace
	})
}

func TestLoopbackChildrenDieWithTheSupervisor(t *testing.T) {
	path := testBinary(t)
	mark := fmt.Sprintf("loopback-%d-%d", os.Getpid(), time.Now().UnixNano())
	cmd := mode{}.command(t, path, argLoopback)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	cmd.Env = append(os.Environ(), "SLUICE_TEST_MARK="+mark)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, stdout, "up")
	eventually(t, "the supervisor and two processes run", func() bool { return len(marked(t, mark)) == 3 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "no process of the lab is left", func() bool { return len(marked(t, mark)) == 0 })
}

func TestProbeFindsWhatWorksHere(t *testing.T) {
	path := testBinary(t)
	for _, m := range modes(t) {
		t.Run(m.name, func(t *testing.T) {
			// Probe decides by the user it runs as, so it must run as that user.
			output, err := m.command(t, path, argLaunch, fmt.Sprint(m.unprivileged), ProbeCommand).CombinedOutput()
			if err != nil {
				t.Fatalf("probe: %v\n%s", err, output)
			}
		})
	}
	found := Probe(t.Context(), path)
	if len(found) != 2 || found[0].Kind != Netns || !found[0].OK || found[0].Unprivileged != (os.Geteuid() != 0) {
		t.Errorf("Probe = %+v, want netns, which works, and loopback", found)
	}
	if last := found[len(found)-1]; last.Kind != Loopback || !last.OK {
		t.Errorf("Probe = %+v, want loopback last, which works", found)
	}
}

func TestAFailedProbeSaysWhatWouldHelp(t *testing.T) {
	exit := exec.Command("/bin/sh", "-c", "exit 1").Run()
	for name, tc := range map[string]struct {
		err          error
		output       string
		unprivileged bool
		settings     map[string]string
		want         []string
	}{
		"Debian's switch":   {err: errors.New("fork: operation not permitted"), unprivileged: true, settings: map[string]string{"kernel/unprivileged_userns_clone": "0"}, want: []string{"operation not permitted", "sysctl kernel.unprivileged_userns_clone=1", "root"}},
		"a limit of none":   {err: errors.New("fork: no space left"), unprivileged: true, settings: map[string]string{"user/max_user_namespaces": "0"}, want: []string{"user.max_user_namespaces"}},
		"Ubuntu's AppArmor": {err: exit, output: "first\nmount /proc: permission denied\n", unprivileged: true, settings: map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "1"}, want: []string{"mount /proc: permission denied", "apparmor_restrict_unprivileged_userns=0"}},
		"root in a cage":    {err: errors.New("fork: operation not permitted"), want: []string{"CAP_SYS_ADMIN"}},
		"nobody knows":      {err: exit, unprivileged: true, want: []string{"exit status 1", "--engine loopback"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := explain(tc.err, tc.output, tc.unprivileged, func(name string) string { return tc.settings[name] })
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("explain = %q, want it to say %q", got, want)
				}
			}
		})
	}
}

func TestProbeOfAProgramThatIsNotThereSaysSo(t *testing.T) {
	for _, capability := range Probe(t.Context(), "/nonexistent/sluice") {
		if capability.Kind == Netns && (capability.OK || !strings.Contains(capability.Reason, "no such file")) {
			t.Errorf("capability = %+v, want a reason", capability)
		}
	}
}

func TestNetnsRefusesToTouchTheHost(t *testing.T) {
	if lab, err := OpenNetns(slog.New(slog.DiscardHandler)); err == nil {
		t.Fatalf("OpenNetns outside of Isolate = %v, want an error", lab)
	}
}

func TestCaptureStopsAtOnceWhenItsContextHasEnded(t *testing.T) {
	if os.Geteuid() != 0 {
		require(t, "root, to open a packet socket on the host's loopback")
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	if err := capture(ctx, 1, &out); err != nil {
		t.Fatal(err)
	}
	if out.Len() != 24 {
		t.Errorf("capture wrote %d bytes, want the header alone", out.Len())
	}
}
