// Package labtest runs whole labs for tests, as a person would: through the
// sluice program, built once from this tree.
package labtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/internal/binaries"
	"sluice/lab/engine"
)

// Variant is an engine and a user to run it as.
type Variant struct {
	// Engine is "netns" or "loopback".
	Engine string
	// Unprivileged runs everything as a user without any privilege; it needs root
	// to become that user.
	Unprivileged bool
}

// String names the variant in a subtest.
func (v Variant) String() string {
	if v.Unprivileged {
		return v.Engine + "-unprivileged"
	}
	return v.Engine
}

// nobody is a user that owns nothing and may do nothing.
const nobody = 65534

// Lab is one lab of a test: its own state folder and its own host ports.
type Lab struct {
	Variant
	// State is the state folder; Dir is a copy of the project's datacenters and
	// intentions, which the test may change.
	State, Dir string
	// Offset is what is added to the host's ports.
	Offset int
	// Env are further variables of the program's environment.
	Env []string

	t   testing.TB
	bin string
}

// buildOnce builds the programs once for all tests of a process.
//
//nolint:gochecknoglobals // sync.OnceValues needs a place that outlives a test.
var buildOnce = sync.OnceValues(build)

func build() (string, error) {
	dir, err := os.MkdirTemp("", "sluice-bin-")
	if err != nil {
		return "", err
	}
	// The unprivileged user must be able to run them.
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	command := exec.Command("go", "build", "-o", dir+"/", "./cmd/sluice", "./web", "./mongo-agent", "./gateway")
	command.Dir = projectRoot()
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the programs: %w\n%s", err, output)
	}
	return dir, nil
}

func projectRoot() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Main runs a package's tests and deletes what they built. Call it from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if dir, err := buildOnce(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// Require skips the test where this machine cannot run the variant, unless
// SLUICE_REQUIRE=1, which makes that a failure.
func Require(t testing.TB, v Variant) {
	t.Helper()
	lack := func(format string, args ...any) {
		t.Helper()
		if os.Getenv("SLUICE_REQUIRE") == "1" {
			t.Fatalf("SLUICE_REQUIRE=1, but "+format, args...)
		}
		t.Skipf(format, args...)
	}
	if _, err := binaries.Consul(); err != nil {
		lack("%v", err)
	}
	if _, err := binaries.Mongod(); err != nil {
		lack("%v", err)
	}
	if v.Unprivileged && os.Geteuid() != 0 {
		lack("only root can become another user")
	}
	if v.Engine != string(engine.Netns) {
		return
	}
	dir, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, capability := range engine.Probe(ctx, filepath.Join(dir, "sluice")) {
		if capability.Kind == engine.Netns && !capability.OK {
			lack("no network namespaces here: %s", capability.Reason)
		}
	}
}

// New prepares a lab without starting it. It is ended, and its state deleted,
// when the test ends.
func New(t testing.TB, v Variant, offset int) *Lab {
	t.Helper()
	Require(t, v)
	bin, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sluice-lab-")
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{Variant: v, State: filepath.Join(dir, "state"), Dir: dir, Offset: offset, t: t, bin: bin}
	for _, folder := range []string{"datacenters", "intentions"} {
		if err := copyFiles(filepath.Join(projectRoot(), folder), filepath.Join(dir, folder)); err != nil {
			t.Fatal(err)
		}
	}
	if v.Unprivileged {
		l.giveAway()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the supervisor's log:\n%s", tail(filepath.Join(l.State, "logs", "supervisor.log"), 30))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if result := l.RunContext(ctx, "down", "--purge"); result.Code != 0 {
			t.Errorf("end the lab: %s", result)
		}
		_ = os.RemoveAll(dir)
	})
	return l
}

func (l *Lab) giveAway() {
	err := filepath.WalkDir(l.Dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, nobody, nobody))
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

func copyFiles(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	paths, err := filepath.Glob(filepath.Join(from, "*.hcl"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(path)), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// For returns the same lab for a subtest: what goes wrong is that test's failure.
// The lab still ends with the test that made it.
func (l *Lab) For(t testing.TB) *Lab {
	other := *l
	other.t = t
	return &other
}

// Result is how a run of the program ended.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// String shows all of it.
func (r Result) String() string {
	return fmt.Sprintf("exit code %d\nstdout: %s\nstderr: %s", r.Code, r.Stdout, r.Stderr)
}

// Run runs `sluice ARGS` for this lab, for two minutes at most.
func (l *Lab) Run(args ...string) Result {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return l.RunContext(ctx, args...)
}

// RunContext is Run with the caller's bound; when ctx ends the program is killed.
func (l *Lab) RunContext(ctx context.Context, args ...string) Result {
	l.t.Helper()
	var stdout, stderr bytes.Buffer
	command := l.Command(ctx, args...)
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		l.t.Fatalf("run sluice %s: %v", strings.Join(args, " "), err)
	}
	return Result{Code: command.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}

// Command prepares `sluice ARGS` for this lab, run as its user in its folder.
func (l *Lab) Command(ctx context.Context, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, filepath.Join(l.bin, "sluice"), args...)
	command.Dir = l.Dir
	command.WaitDelay = 5 * time.Second
	command.Env = append(os.Environ(), "SLUICE_STATE="+l.State, "CI=true")
	if path, err := binaries.Consul(); err == nil {
		command.Env = append(command.Env, "SLUICE_CONSUL="+l.reachable(path))
	}
	if path, err := binaries.Mongod(); err == nil {
		command.Env = append(command.Env, "SLUICE_MONGOD="+l.reachable(path))
	}
	command.Env = append(command.Env, l.Env...)
	if l.Unprivileged {
		command.Env = append(command.Env, "HOME="+l.Dir)
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return command
}

// reachable gives the unprivileged user a way to a program below a home folder
// that is closed to it: a hard link, or a copy, beside the built programs.
func (l *Lab) reachable(path string) string {
	if !l.Unprivileged {
		return path
	}
	target := filepath.Join(l.bin, filepath.Base(path))
	if _, err := os.Stat(target); err == nil {
		return target
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		l.t.Fatal(err)
	}
	if os.Link(resolved, target) == nil {
		return target
	}
	// Two commands may run at once: each makes a copy of its own, and the last one
	// takes the place, whole.
	own := target + rand.Text()
	if err := copyProgram(resolved, own); err != nil {
		l.t.Fatal(err)
	}
	if err := os.Rename(own, target); err != nil {
		l.t.Fatal(err)
	}
	return target
}

func copyProgram(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

// OwnPrograms gives the lab a copy of the programs, which the test may change, and
// returns its folder.
func (l *Lab) OwnPrograms() string {
	l.t.Helper()
	own := filepath.Join(l.Dir, "bin")
	if err := os.Mkdir(own, 0o755); err != nil {
		l.t.Fatal(err)
	}
	for _, name := range []string{"sluice", "web", "mongo-agent", "gateway"} {
		if err := os.Link(filepath.Join(l.bin, name), filepath.Join(own, name)); err == nil {
			continue
		}
		if err := copyProgram(filepath.Join(l.bin, name), filepath.Join(own, name)); err != nil {
			l.t.Fatal(err)
		}
	}
	l.bin = own
	return own
}

// Up starts the lab and fails the test if it does not come up.
func (l *Lab) Up(args ...string) Result {
	l.t.Helper()
	result := l.Run(append([]string{"up", "--engine", l.Engine, "--port-offset", fmt.Sprint(l.Offset)}, args...)...)
	if result.Code != 0 {
		l.t.Fatalf("sluice up: %s", result)
	}
	return result
}

// Must runs the program and fails the test on any exit code but 0.
func (l *Lab) Must(args ...string) Result {
	l.t.Helper()
	result := l.Run(args...)
	if result.Code != 0 {
		l.t.Fatalf("sluice %s: %s", strings.Join(args, " "), result)
	}
	return result
}
