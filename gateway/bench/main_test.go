package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets this test's binary be the processes that the bench starts from its
// own program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == upstreamCommand || os.Args[1] == loadCommand) {
		main()
	}
	os.Exit(m.Run())
}

// TestTheTableCanBeProduced runs the whole bench for a moment and looks only
// whether there is a table: figures of a busy machine prove nothing.
func TestTheTableCanBeProduced(t *testing.T) {
	if _, err := consulPath(); err != nil {
		if os.Getenv("SLUICE_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	folder := t.TempDir()
	gateway, page := filepath.Join(folder, "gateway"), filepath.Join(folder, "page.md")
	if said, err := exec.Command("go", "build", "-o", gateway, "sluice/gateway").CombinedOutput(); err != nil {
		t.Fatalf("build the gateway: %v\n%s", err, said)
	}
	if err := os.WriteFile(page, []byte("before\n"+pageBegin+"\n"+pageEnd+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var out, log bytes.Buffer
	code := run(ctx, []string{
		"-gateway", gateway, "-out", folder, "-page", page, "-peers", "sluice,nginx,haproxy", "-scenarios", "mtls",
		"-rounds", "1", "-round", "1s", "-warm-up", "0s", "-repeats", "0", "-connections", "4",
	}, &out, &log)
	if code != exitOK {
		t.Fatalf("exit code %d\n%s", code, log.String())
	}
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	written := string(content)
	for _, want := range []string{"before\n", "\nafter\n", "### Plain to mutual TLS, keep-alive", "\n| sluice", "\n| nginx", "\n| haproxy", "### The bars"} {
		if !strings.Contains(written, want) {
			t.Errorf("the page lacks %q:\n%s", want, written)
		}
	}
	if strings.Contains(written, "| sluice | not") {
		t.Errorf("the gateway was not measured:\n%s\n%s", written, log.String())
	}
	if _, err := os.Stat(filepath.Join(folder, "results.json")); err != nil {
		t.Error(err)
	}
}

func TestAnInterruptedRunLeavesNothingBehind(t *testing.T) {
	folder := t.TempDir()
	p, err := start(command{name: "sleeper", path: "/bin/sh", args: []string{"-c", "sleep 1000 & trap '' TERM; wait; sleep 1000"}, folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	table, err := processTable()
	if err != nil {
		t.Fatal(err)
	}
	if len(tree(table, os.Getpid())) < 2 {
		t.Error("the process that was started is not found below us")
	}
	p.stop(50 * time.Millisecond)
	if !p.gone() {
		t.Error("the process runs on after stop")
	}
	if err := await(t.Context(), 5*time.Second, "its children have ended", func(context.Context) error {
		return exec.Command("/bin/sh", "-c", "! kill -0 -"+itoa(p.pid())+" 2>/dev/null").Run()
	}); err != nil {
		t.Error(err)
	}
}

func TestFlagsThatCannotBeRightAreRefusedBeforeAnythingStarts(t *testing.T) {
	for _, args := range []string{"-peers apache", "-scenarios all", "-rounds 0", "-round 1ms", "-repeats -1", "stray", "-rate -1"} {
		if _, err := parse(strings.Fields(args), new(bytes.Buffer)); err == nil {
			t.Errorf("%s: accepted", args)
		}
	}
	cfg, err := parse(strings.Fields("-short -rounds 5 -peers nginx,sluice"), new(bytes.Buffer))
	if err != nil || cfg.rounds != 5 || cfg.round != 3*time.Second || len(cfg.scenarios) != 1 || len(cfg.peers) != 2 {
		t.Errorf("-short: %+v, %v", cfg, err)
	}
}
