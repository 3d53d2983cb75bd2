package process

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// argOrphans makes the test binary play PID 1: see TestPID1ReapsOrphansAndNothingElse.
const argOrphans = "__orphans"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == argOrphans {
		if err := playPID1(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// os/signal keeps one goroutine for good once anything was notified.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("os/signal.loop"), goleak.IgnoreAnyFunction("os/signal.signal_recv"))
}

func shell(t *testing.T, script string) (*Process, string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "shell.log")
	p, err := Start(t.Context(), Here{}, Spec{Name: "shell", Path: "/bin/sh", Args: []string{"-c", script}, LogFile: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p, log
}

// eventually waits for a condition, which has a name.
func eventually(t *testing.T, name string, condition func() bool) {
	t.Helper()
	if err := poll(condition); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func poll(condition func() bool) error {
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			return fmt.Errorf("never came true")
		}
		<-tick.C
	}
	return nil
}

func await(t *testing.T, p *Process) State {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the process does not end")
	}
	return p.State()
}

// playPID1 reaps in a PID namespace of its own: 20 orphans, while 200 children of
// os/exec end with codes that must all arrive.
func playPID1() error {
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	reaped := make(chan error, 1)
	go func() { reaped <- Reap(ctx, slog.New(slog.NewTextHandler(io.Discard, nil))) }()
	const orphans = 20
	for range orphans {
		if err := exec.Command("/bin/sh", "-c", "(sleep 0.1 &)").Run(); err != nil {
			return err
		}
	}
	for i := range 200 {
		err := exec.Command("/bin/sh", "-c", fmt.Sprintf("exit %d", i%100)).Run()
		if code := exitCode(err); code != i%100 {
			return fmt.Errorf("exit %d arrived as %v", i%100, err)
		}
	}
	all := reaper{self: os.Getpid()}
	seen := 0
	if err := poll(func() bool {
		zombies, _ := all.zombies()
		seen = max(seen, len(zombies))
		return seen > 0
	}); err != nil {
		return fmt.Errorf("orphans become zombies: %w", err)
	}
	if err := poll(func() bool {
		zombies, err := all.zombies()
		return err == nil && len(zombies) == 0
	}); err != nil {
		return fmt.Errorf("orphans are reaped: %w", err)
	}
	cancel()
	return <-reaped
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	return -1
}
