package control

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestTheSocketIsClosedToOthers(t *testing.T) {
	previous := syscall.Umask(0) // the mode must not depend on it
	defer syscall.Umask(previous)
	path := serve(t, testHandlers())
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v, want 0600", info.Mode(), err)
	}
}

func TestAFolderThatIsOpenToOthersIsRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o755, 0o710, 0o702} {
		path := folder(t)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		listener, err := Listen(filepath.Join(path, "control.sock"))
		if err == nil || !strings.Contains(err.Error(), "chmod 0700") {
			t.Errorf("mode %v: %v, %v", mode, listener, err)
		}
	}
	if os.Geteuid() == 0 {
		path := folder(t)
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(filepath.Join(path, "control.sock")); err == nil {
			t.Error("another user's folder: accepted")
		}
	}
}

func TestNoLabIsToldFromOtherFailures(t *testing.T) {
	state := folder(t)
	for name, path := range map[string]string{
		"no folder": filepath.Join(state, "absent", "control.sock"),
		"no socket": filepath.Join(state, "control.sock"),
	} {
		if _, err := Dial(t.Context(), path); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dead := filepath.Join(state, "dead.sock")
	leave(t, dead)
	if _, err := Dial(t.Context(), dead); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a socket that nobody listens at: %v", err)
	}
	file := filepath.Join(state, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), filepath.Join(file, "control.sock")); err == nil || errors.Is(err, ErrNotRunning) {
		t.Errorf("a folder that is a file: %v", err)
	}
}

// leave leaves a socket behind as a process does that was killed.
func leave(t *testing.T, path string) {
	t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	_ = listener.Close()
}

func TestADeadSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	path := filepath.Join(folder(t), "control.sock")
	leave(t, path)
	serveAt(t, path, testHandlers())
	if _, err := Listen(path); !errors.Is(err, ErrRunning) {
		t.Errorf("a second Listen = %v, want that a lab is running", err)
	}
	if _, err := connect(t, path).Do(t.Context(), "silent", nil, nil, nil); err != nil {
		t.Errorf("the first one was disturbed: %v", err)
	}
}

func TestOnlyOneOfManyGetsTheSocket(t *testing.T) {
	path := filepath.Join(folder(t), "control.sock")
	for range 100 {
		_ = os.Remove(path)
		leave(t, path)
		var listening sync.WaitGroup
		won := make(chan net.Listener, 8)
		for range cap(won) {
			listening.Go(func() {
				listener, err := Listen(path)
				switch {
				case err == nil:
					won <- listener
				case !errors.Is(err, ErrRunning):
					t.Error(err)
				}
			})
		}
		listening.Wait()
		close(won)
		if len(won) != 1 {
			t.Errorf("%d got the socket", len(won))
		}
		for listener := range won {
			_ = listener.Close()
		}
	}
}

func TestAPathOfAnyLengthWorks(t *testing.T) {
	long := folder(t)
	for len(long) < 300 {
		long = filepath.Join(long, strings.Repeat("d", 60))
	}
	if err := os.MkdirAll(long, 0o700); err != nil {
		t.Fatal(err)
	}
	just := folder(t)
	for _, path := range []string{
		filepath.Join(long, "control.sock"),
		filepath.Join(just, strings.Repeat("s", maxPath-len(just)-1)),
		filepath.Join(just, strings.Repeat("s", maxPath-len(just))),
	} {
		serveAt(t, path, testHandlers())
		if _, err := connect(t, path).Do(t.Context(), "silent", nil, nil, nil); err != nil {
			t.Errorf("%d bytes: %v", len(path), err)
		}
		if _, err := Listen(path); !errors.Is(err, ErrRunning) {
			t.Errorf("%d bytes, a second time: %v", len(path), err)
		}
	}
}

func TestOnlyTheOwnerAndRootMayCommand(t *testing.T) {
	for name, tc := range map[string]struct {
		peer, own uint32
		allowed   bool
	}{
		"ourselves":                           {1000, 1000, true},
		"root":                                {0, 1000, true},
		"ourselves, in a user namespace":      {0, 0, true},
		"another user":                        {1001, 1000, false},
		"another user, seen from a namespace": {65534, 0, false},
	} {
		if err := judgePeer(tc.peer, tc.own); (err == nil) != tc.allowed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnotherUserIsRefusedEvenWhenTheModesWouldLetIt(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("SLUICE_REQUIRE") == "1" {
			t.Fatal("this test needs root, to become another user")
		}
		t.Log("without root there is no other user to become")
		return
	}
	path := filepath.Join(t.TempDir(), "state", "control.sock")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	serveAt(t, path, testHandlers())
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func() string {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cmd := exec.CommandContext(ctx, readable(t), argDial, path)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		output, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		return string(output)
	}
	if got := run(); !strings.Contains(got, "permission denied: run as the user who started the lab") {
		t.Errorf("with the socket's own mode: %s", got)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if got := run(); !strings.Contains(got, "user 65534 may not command this lab") {
		t.Errorf("with a mode that lets everybody in: %s", got)
	}
}

// readable copies the test binary to where every user can read it.
func readable(t *testing.T) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "sluice-control-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	source, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	path := filepath.Join(directory, "control.test")
	target, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(target, source)
	if err := errors.Join(err, target.Chmod(0o755), target.Close(), os.Chmod(directory, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}
