package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/lab/engine"
)

// TestMain answers the one hidden command that these tests make the program call
// on itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == engine.ProbeCommand {
		os.Exit(run(context.Background(), os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
	}
	os.Exit(m.Run())
}

// outcome is how a run of the program ended.
type outcome struct {
	code        int
	out, errOut string
}

func (o outcome) String() string {
	return fmt.Sprintf("exit code %d\nstdout: %s\nstderr: %s", o.code, o.out, o.errOut)
}

// sluice runs the program in a folder where there is neither a lab nor a project.
func sluice(t *testing.T, args ...string) outcome {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("SLUICE_STATE", filepath.Join(dir, "state"))
	return sluiceHere(t, args...)
}

// sluiceHere runs the program where the test is, for half a minute at most.
func sluiceHere(t *testing.T, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var std streams
	for _, file := range []**os.File{&std.in, &std.out, &std.err} {
		opened, err := os.CreateTemp(t.TempDir(), "stream-")
		if err != nil {
			t.Fatal(err)
		}
		defer opened.Close()
		*file = opened
	}
	code := run(ctx, args, std)
	return outcome{code: code, out: content(t, std.out), errOut: content(t, std.err)}
}

func content(t *testing.T, file *os.File) string {
	t.Helper()
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// oneDocument fails the test unless text is exactly one JSON document.
func oneDocument(t *testing.T, text string) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	var document any
	if err := decoder.Decode(&document); err != nil {
		t.Fatalf("no JSON document: %v\n%s", err, text)
	}
	if _, err := decoder.Token(); err != io.EOF {
		t.Fatalf("more than one JSON document:\n%s", text)
	}
}
