package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ExecCommand {
		fmt.Println(ExecMain(os.Args[2:]))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

type here struct{}

func (here) Start(cmd *exec.Cmd) error { return cmd.Start() }

// syncer starts a program that syncs a file for each line that it reads.
func syncer(t *testing.T, d *Disk) (say func(), heard <-chan string, end func()) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	cmd := exec.Command("/bin/sh", "-c", `echo up; while read x; do dd if=/dev/null of="$0" conv=fsync 2>&1 | head -c 2000 | grep -o "No space left" || echo synced; done`, file)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 10)
	cmd.Stdout = writer(func(b []byte) {
		for line := range bytes.Lines(b) {
			lines <- string(bytes.TrimSpace(line))
		}
	})
	if err := d.Start(cmd); err != nil {
		t.Fatal(err)
	}
	return func() { fmt.Fprintln(in, "x") }, lines, func() { _ = in.Close(); _ = cmd.Wait(); _ = d.Wait(context.Background()) }
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

func want(t *testing.T, heard <-chan string, line string) {
	t.Helper()
	select {
	case got := <-heard:
		if got != line {
			t.Errorf("the program says %q, want %q", got, line)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("the program never says %q", line)
	}
}

// wantStalled waits until an fsync of the program waits for the disk.
func wantStalled(t *testing.T, d *Disk) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for bound := time.After(20 * time.Second); ; {
		d.mu.Lock()
		stalled := d.stalled
		d.mu.Unlock()
		if stalled == 1 {
			return
		}
		select {
		case <-tick.C:
		case <-bound:
			t.Fatalf("%d fsyncs wait for a stalled disk, want 1", stalled)
		}
	}
}

func TestADiskFailsAndStallsTheProgramsFsyncsWhileItAilsAndNoLonger(t *testing.T) {
	d := New(here{}, "/proc/self/exe")
	if err := d.Set(Full); !errors.Is(err, ErrNoReports) {
		t.Errorf("with no program: %v", err)
	}
	say, heard, end := syncer(t, d)
	defer end()
	want(t, heard, "up")
	say()
	want(t, heard, "synced")
	if err := d.Set(Full); err != nil {
		t.Fatal(err)
	}
	say()
	want(t, heard, "No space left")
	if err := d.Set(Stalled); err != nil {
		t.Fatal(err)
	}
	say()
	wantStalled(t, d)
	select {
	case got := <-heard:
		t.Errorf("a stalled disk lets the program say %q", got)
	default:
	}
	if err := d.Set(Healthy); err != nil {
		t.Fatal(err)
	}
	want(t, heard, "synced")
}
