package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Hidden arguments of the test binary, which plays every process of these tests.
const (
	argLaunch   = "__launch"   // UNPRIVILEGED ARGS...: run ARGS under Isolate and pass the exit code on
	argLab      = "__lab"      // a lab with sleeping processes, which says "up" and waits
	argLoopback = "__loopback" // the same, in the loopback engine
	argSleep    = "__sleep"    // wait until killed
	insideEnv   = "SLUICE_TEST_INSIDE"
	nobody      = 65534
)

func TestMain(m *testing.M) {
	code, played := play(os.Args[1:])
	if !played {
		code = m.Run()
	}
	os.Exit(code)
}

func play(args []string) (int, bool) {
	if len(args) == 0 {
		return 0, false
	}
	var err error
	switch args[0] {
	case ProbeCommand:
		err = ProbeMain()
	case argLaunch:
		err = launch(args[1:])
	case argLab:
		err = sleepingLab(OpenNetns(slog.New(slog.DiscardHandler)))
	case argLoopback:
		err = sleepingLab(OpenLoopback(77))
	case argSleep:
		waitForEver()
	default:
		return 0, false
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode(), true
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return 0, true
}

func waitForEver() {
	never := make(chan os.Signal, 1)
	signal.Notify(never, syscall.SIGUSR2)
	<-never
}

// launch is the process outside of the lab. Its death closes the lab's standard
// input, so that no test leaves a lab behind.
func launch(args []string) error {
	unprivileged, err := strconv.ParseBool(args[0])
	if err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	Isolate(cmd, unprivileged)
	return cmd.Run()
}

// sleepingLab makes two nodes, starts a process with a child of its own in each,
// and waits.
func sleepingLab(lab Engine, err error) error {
	if err != nil {
		return err
	}
	if err := lab.AddDatacenter("dc1", netip.MustParsePrefix("198.18.1.0/24")); err != nil {
		return err
	}
	for i, name := range []string{"a", "b"} {
		node, err := lab.AddNode("dc1", NodeSpec{Name: name, Address: netip.MustParsePrefix(fmt.Sprintf("198.18.1.%d/24", 11+i))})
		if err != nil {
			return err
		}
		cmd := exec.Command("/proc/self/exe", argSleep)
		if lab.Kind() == Netns {
			cmd = exec.Command("/bin/sh", "-c", "sleep 1000 & wait")
		}
		cmd.Env = append(os.Environ(), "SLUICE_TEST_MARK="+os.Getenv("SLUICE_TEST_MARK"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // out of every group and session
		if err := node.Start(cmd); err != nil {
			return err
		}
	}
	fmt.Println("up")
	_, err = io.Copy(io.Discard, os.Stdin) // until whoever started us is gone
	return err
}

// mode is how a lab is started: the product must work both ways.
type mode struct {
	name         string
	unprivileged bool
	credential   *syscall.Credential // nil: as the user who runs the tests
}

// modes returns the ways that this user can try. Root tries both; anybody else
// has no privilege to try the first with.
func modes(t *testing.T) []mode {
	t.Helper()
	if os.Geteuid() != 0 {
		require(t, "root, to run the engine as root too")
		return []mode{{name: "unprivileged", unprivileged: true}}
	}
	return []mode{
		{name: "root"},
		{name: "unprivileged", unprivileged: true, credential: &syscall.Credential{Uid: nobody, Gid: nobody, NoSetGroups: false}},
	}
}

// require notes a missing prerequisite. It fails where all are demanded.
func require(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("SLUICE_REQUIRE") == "1" {
		t.Fatalf("this test needs %s", what)
	}
	t.Logf("without %s", what)
}

// testBinary returns the test binary in a place that every user can read.
func testBinary(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "sluice-engine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	source, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	path := filepath.Join(folder, "engine.test")
	target, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(target, source); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(target.Chmod(0o755), target.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// command prepares the test binary as a process of mode m.
func (m mode) command(t *testing.T, path string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: m.credential}
	return cmd
}

// eventually waits for a condition, which has a name.
func eventually(t *testing.T, name string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", name)
		}
		<-tick.C
	}
}

// marked returns the processes whose environment holds mark.
func marked(t *testing.T, mark string) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		environment, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ"))
		if err == nil && strings.Contains(string(environment), "SLUICE_TEST_MARK="+mark) {
			found = append(found, pid)
		}
	}
	return found
}

// awaitLine reads lines until one is want.
func awaitLine(t *testing.T, reader io.Reader, want string) {
	t.Helper()
	scanner := bufio.NewScanner(reader)
	for scanner.Scan() {
		if scanner.Text() == want {
			return
		}
	}
	t.Fatalf("the lab ended before it said %q", want)
}
