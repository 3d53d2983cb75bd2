package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/lab"
)

func write(t *testing.T, path, text string, flags int) {
	t.Helper()
	file, err := os.OpenFile(path, flags|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLastLinesAreAsManyAsAskedFor(t *testing.T) {
	cases := []struct {
		name, content, want string
		lines               int
	}{
		{"the last two", "a\nb\nc\n", "b\nc\n", 2},
		{"the last line has not ended", "a\nb\nc", "b\nc", 2},
		{"more than there are", "a\nb\n", "a\nb\n", 9},
		{"all", "a\nb\nc\n", "a\nb\nc\n", 0},
		{"an empty file", "", "", 5},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			write(t, path, c.content, 0)
			text, offset, err := lastLines(path, c.lines)
			if err != nil || text != c.want || offset != int64(len(c.content)) {
				t.Errorf("got %q, %d, %v; want %q, %d", text, offset, err, c.want, len(c.content))
			}
		})
	}
	if text, offset, err := lastLines(filepath.Join(t.TempDir(), "none"), 5); text != "" || offset != 0 || err != nil {
		t.Errorf("a log that does not exist yet: %q, %d, %v", text, offset, err)
	}
}

func TestTheLogsOfALabThatHasEndedCanStillBeRead(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	for path, text := range map[string]string{"web-1/web.log": "web's last words\n", "web-1/web.log.1": "old\n", "mongo-1/mongod.log": "mongod's\n", "supervisor.log": "the lab's own\n"} {
		path = filepath.Join(state, "logs", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, path, text, 0)
	}
	for target, want := range map[string]string{
		"web-1/web":  "web's last words\n",
		"supervisor": "the lab's own\n",
		"":           "mongo-1/mongod | mongod's\nweb-1/web | web's last words\n",
	} {
		result := sluice(t, slices.DeleteFunc([]string{"--state", state, "logs", target}, func(arg string) bool { return arg == "" })...)
		if result.code != exitOK || result.out != want {
			t.Errorf("logs %s: want %q: %s", target, want, result)
		}
	}
	result := sluice(t, "--state", state, "logs", "web-9")
	if result.code != exitFailed || !strings.Contains(result.errOut, "there are mongo-1/mongod, web-1/web, supervisor") {
		t.Errorf("a name that nobody has: %s", result)
	}
}

func TestAFollowedLogShowsWholeLinesAndSurvivesRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, "old\n", 0)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	reports := make(chan string)
	ended := make(chan error, 1)
	go func() {
		ended <- followFile(ctx, path, 4, func(text string) {
			select {
			case reports <- text:
			case <-ctx.Done():
			}
		})
	}()
	next := func(want string) {
		t.Helper()
		select {
		case got := <-reports:
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		case <-ctx.Done():
			t.Fatalf("%q was not reported", want)
		}
	}
	write(t, path, "one\nhal", os.O_APPEND)
	next("one\n")
	write(t, path, "f\n", os.O_APPEND)
	next("half\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(t, path, "new\n", 0)
	next("new\n")
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Errorf("it ended with %v", err)
	}
}

func TestATargetNamesANodeOrOneOfItsProcesses(t *testing.T) {
	refs := []lab.ProcessRef{
		{Node: "web-1", Process: "consul"}, {Node: "web-1", Process: "web"}, {Node: "web-10", Process: "web"},
	}
	for target, want := range map[string]string{
		"":               "web-1/consul web-1/web web-10/web",
		"web-1":          "web-1/consul web-1/web",
		"web-1/web":      "web-1/web",
		"web-1/mongod":   "",
		"web":            "",
		"web-1/":         "",
		"web-1/web/more": "",
	} {
		var got []string
		for _, ref := range choose(refs, target) {
			got = append(got, ref.Node+"/"+ref.Process)
		}
		if joined := strings.Join(got, " "); joined != want {
			t.Errorf("%q chooses %q, want %q", target, joined, want)
		}
	}
}
