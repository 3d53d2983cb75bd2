package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestStateTellsHowAProcessEnded(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		code   int
		signal string
	}{
		"cleanly":     {"exit 0", 0, ""},
		"with a code": {"exit 7", 7, ""},
		"by a signal": {"kill -SEGV $$", -1, "SIGSEGV"},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := shell(t, tc.script)
			state := await(t, p)
			if state.Running || state.Stopped || state.ExitCode != tc.code || state.Signal != tc.signal {
				t.Errorf("state = %+v, want code %d, signal %q", state, tc.code, tc.signal)
			}
			if state.Started.IsZero() || state.Exited.Before(state.Started) {
				t.Errorf("started %v, exited %v", state.Started, state.Exited)
			}
			if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
				t.Errorf("signal after the end: %v", err)
			}
			if err := p.Stop(t.Context(), time.Second); err != nil {
				t.Errorf("stop after the end: %v", err)
			}
		})
	}
}

func TestStartFailsWithAReason(t *testing.T) {
	_, err := Start(t.Context(), Here{}, Spec{Name: "consul", Path: "/nonexistent/consul"})
	if err == nil || !strings.Contains(err.Error(), "start consul") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("err = %v", err)
	}
	_, err = Start(t.Context(), Here{}, Spec{Name: "consul", Path: "/bin/true", LogFile: "/nonexistent/log"})
	if err == nil || !strings.Contains(err.Error(), "open log") {
		t.Errorf("err = %v", err)
	}
}

func TestStopAsksFirstAndKillsAfterTheGrace(t *testing.T) {
	polite, _ := shell(t, "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
	eventually(t, "it is ready", func() bool { return slices.Contains(polite.Tail(1), "ready") })
	if err := polite.Stop(t.Context(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if state := polite.State(); state.ExitCode != 3 {
		t.Errorf("state = %+v, want that it ended itself", state)
	}
	stubborn, _ := shell(t, "trap '' TERM; echo ready; while :; do sleep 0.05; done")
	eventually(t, "it is ready", func() bool { return slices.Contains(stubborn.Tail(1), "ready") })
	if err := stubborn.Stop(t.Context(), 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if state := stubborn.State(); state.Signal != "SIGKILL" {
		t.Errorf("state = %+v, want killed", state)
	}
}

func TestStopKillsAtOnceWhenItsContextHasEnded(t *testing.T) {
	p, _ := shell(t, "trap '' TERM; echo ready; while :; do sleep 0.05; done")
	eventually(t, "it is ready", func() bool { return slices.Contains(p.Tail(1), "ready") })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Stop(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	if state := p.State(); state.Signal != "SIGKILL" {
		t.Errorf("state = %+v, want killed", state)
	}
}

func TestAHaltedProcessShowsAndCanBeStopped(t *testing.T) {
	// It starts nobody after it is ready: a shell whose child is halted between vfork
	// and exec waits for it and cannot be halted itself.
	p, _ := shell(t, "sleep 1000 & trap 'exit 3' TERM; echo ready; while :; do wait $!; done")
	eventually(t, "it is ready", func() bool { return slices.Contains(p.Tail(1), "ready") })
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is halted", func() bool { s := p.State(); return s.Running && s.Stopped })
	if err := p.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it goes on", func() bool { s := p.State(); return s.Running && !s.Stopped })
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if state := p.State(); state.ExitCode != 3 {
		t.Errorf("state = %+v, want that it ended itself", state)
	}
}

func TestTheWholeGroupEndsWithItsLeader(t *testing.T) {
	p, _ := shell(t, "sleep 1000 & echo $!; exit 0")
	await(t, p)
	pid, err := strconv.Atoi(p.Tail(1)[0])
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the leader's child is gone", func() bool {
		s, err := readStatus(pid)
		return err != nil || s.state == 'Z'
	})
}

func TestRestartCountsAndKeepsTheLog(t *testing.T) {
	p, log := shell(t, "echo hello; exec sleep 1000")
	eventually(t, "it said hello", func() bool { return len(p.Tail(9)) == 1 })
	first, done := p.PID(), p.Done()
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	default:
		t.Error("the first start is not done")
	}
	eventually(t, "it said hello again", func() bool { return len(p.Tail(9)) == 2 })
	if state := p.State(); !state.Running || state.Restarts != 1 || p.PID() == first {
		t.Errorf("state = %+v, pid %d, before %d", state, p.PID(), first)
	}
	data, err := os.ReadFile(log)
	if err != nil || string(data) != "hello\nhello\n" {
		t.Errorf("log = %q, %v", data, err)
	}
	if info, err := os.Stat(log); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("log's mode = %v, %v", info.Mode(), err)
	}
}

func TestRestartAtOnceFromManySidesLeavesOneProcess(t *testing.T) {
	p, _ := shell(t, "exec sleep 1000")
	var restarting sync.WaitGroup
	for range 4 {
		restarting.Go(func() {
			if err := p.Restart(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	restarting.Wait()
	if state := p.State(); !state.Running || state.Restarts != 4 {
		t.Errorf("state = %+v", state)
	}
}

func TestMemoryIsMeasured(t *testing.T) {
	bytes, err := Memory(os.Getpid())
	if err != nil || bytes < 1<<20 {
		t.Errorf("memory of this test = %d, %v", bytes, err)
	}
	if _, err := Memory(1 << 30); err == nil {
		t.Error("memory of nobody: no error")
	}
}

func TestTheTailKeepsTheNewestLines(t *testing.T) {
	o, err := openOutput("")
	if err != nil {
		t.Fatal(err)
	}
	for i := range tailLines + 7 {
		_, _ = fmt.Fprintf(o, "line %d\r\n", i)
	}
	_, _ = o.Write([]byte("not en"))
	_, _ = o.Write([]byte("ded"))
	want := []string{"line 505", "line 506", "not ended"}
	if got := o.tail(3); !slices.Equal(got, want) {
		t.Errorf("tail = %q, want %q", got, want)
	}
	if got := o.tail(10_000); len(got) != tailLines+1 || got[0] != "line 7" {
		t.Errorf("tail has %d lines from %q", len(got), got[0])
	}
	if got := o.tail(-1); len(got) != 0 {
		t.Errorf("tail of -1 = %q", got)
	}
	_, _ = o.Write([]byte(strings.Repeat("x", 3*lineLength) + "\nnext\n"))
	if got := o.tail(2); len(got[0]) != lineLength || got[1] != "next" {
		t.Errorf("a long line has %d bytes, then %q", len(got[0]), got[1])
	}
}

func TestTheLogIsRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	o, err := openOutput(path)
	if err != nil {
		t.Fatal(err)
	}
	o.limit = 100
	for i := range 30 {
		if n, err := fmt.Fprintf(o, "line %03d\n", i); n != 9 || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	newest, err := os.ReadFile(path)
	if err != nil || !strings.HasSuffix(string(newest), "line 029\n") || len(newest) > 100 {
		t.Errorf("newest = %q, %v", newest, err)
	}
	older, err := os.ReadFile(path + ".1")
	if err != nil || len(older) == 0 || len(older) > 100 {
		t.Errorf("older = %q, %v", older, err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 2 {
		t.Errorf("%d files, want 2", len(entries))
	}
}

func TestAProcessOutlivesAFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Fatal(err)
	}
	p, err := Start(t.Context(), Here{}, Spec{Name: "x", Path: "/bin/sh", Args: []string{"-c", "echo a; echo b; exit 4"}, LogFile: "/dev/full"})
	if err != nil {
		t.Fatal(err)
	}
	if state := await(t, p); state.ExitCode != 4 {
		t.Errorf("state = %+v", state)
	}
	if got := p.Tail(2); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("tail = %q", got)
	}
}

func TestPID1ReapsOrphansAndNothingElse(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", argOrphans)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
}

func TestReapEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Reap(ctx, slog.New(slog.DiscardHandler)) }()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it goes on")
	}
}

func TestAZombieIsDueOnlyWhenNobodyClaimsIt(t *testing.T) {
	r := reaper{seen: map[zombie]time.Time{}}
	start := time.Unix(1000, 0)
	a, b := zombie{pid: 7, started: 1}, zombie{pid: 8, started: 1}
	if due := r.due([]zombie{a, b}, start); len(due) != 0 {
		t.Errorf("due at once: %v", due)
	}
	if due := r.due([]zombie{a}, start.Add(unclaimed-1)); len(due) != 0 {
		t.Errorf("due early: %v", due)
	}
	again := zombie{pid: 8, started: 2} // another process that got the ID of one that was claimed
	if due := r.due([]zombie{a, again}, start.Add(unclaimed)); !slices.Equal(due, []zombie{a}) {
		t.Errorf("due = %v, want %v", due, a)
	}
	if due := r.due(nil, start.Add(unclaimed)); len(due) != 0 || len(r.seen) != 0 {
		t.Errorf("due = %v, seen = %v", due, r.seen)
	}
}

func TestStatusOfACommandWithAnOddName(t *testing.T) {
	got, err := parseStatus([]byte("42 (a) b) T 7 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1234 0 0"))
	if want := (status{state: 'T', parent: 7, started: 1234}); err != nil || got != want {
		t.Errorf("status = %+v, %v, want %+v", got, err, want)
	}
}
