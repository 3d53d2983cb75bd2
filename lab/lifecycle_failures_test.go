package lab_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/internal/labtest"
)

// wantRefused runs `up` and wants it to fail with a code and words, and to leave
// nothing.
func wantRefused(t *testing.T, l *labtest.Lab, code int, words []string, args ...string) labtest.Result {
	t.Helper()
	before := lookAtHost(t)
	result := l.Run(append([]string{"up", "--engine", l.Engine, "--port-offset", fmt.Sprint(l.Offset)}, args...)...)
	if result.Code != code || result.Stdout != "" {
		t.Errorf("want exit code %d and nothing on stdout: %s", code, result)
	}
	for _, word := range words {
		if !strings.Contains(result.Stderr, word) {
			t.Errorf("want %q on stderr: %s", word, result.Stderr)
		}
	}
	trace{lab: l, before: before}.wantProcessesGone(t)
	wantNoDoor(t, l)
	return result
}

func TestABusyPortIsNamedWithItsHolder(t *testing.T) {
	for _, c := range []struct {
		variant labtest.Variant
		offset  int
		holder  string
	}{
		{labtest.Variant{Engine: "loopback"}, 1300, fmt.Sprintf("(pid %d)", os.Getpid())},
		// Who has no privilege may not look at the processes of others.
		{labtest.Variant{Engine: "netns", Unprivileged: true}, 1310, "a process of user 0"},
	} {
		t.Run(c.variant.String(), func(t *testing.T) {
			l := labtest.New(t, c.variant, c.offset)
			port := fmt.Sprintf("127.0.0.1:%d", 9998+c.offset)
			listener, err := net.Listen("tcp", port)
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			wantRefused(t, l, 4, []string{
				port + " is in use", c.holder,
				fmt.Sprintf("sluice up --state %s --port-offset %d\n", l.State, c.offset+100),
			})
		})
	}
}

func TestWithoutAProgramUpSaysWhichAndHowToGetIt(t *testing.T) {
	l := labtest.New(t, labtest.Variant{Engine: "loopback"}, 1320)
	l.Env = []string{"SLUICE_MONGOD=/nonexistent/mongod"}
	wantRefused(t, l, 4, []string{"SLUICE_MONGOD=/nonexistent/mongod", "try: make"})
	empty := t.TempDir()
	l.Env = []string{"SLUICE_MONGOD=", "XDG_CACHE_HOME=" + empty, "PATH=" + empty}
	wantRefused(t, l, 4, []string{"mongod: not found", "try: make"})
	l.Env = []string{"SLUICE_CONSUL=", "XDG_CACHE_HOME=" + empty, "PATH=" + empty}
	wantRefused(t, l, 4, []string{"consul: not found", "try: make"})
}

func TestWrongFilesAreRefusedWithFileAndLine(t *testing.T) {
	for _, c := range []struct{ name, file, from, to, want string }{
		{"topology", "datacenters/dc1.hcl", `"198.18.1.12"`, `"198.18.1.11"`, "datacenters/dc1.hcl:"},
		{"intentions, syntax", "intentions/web.hcl", "=", "==", "intentions/web.hcl:"},
		{"intentions, name", "intentions/web.hcl", `"gateway"`, `"getaway"`, "intentions/web.hcl:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := labtest.New(t, labtest.Variant{Engine: "loopback"}, 1330)
			path := filepath.Join(l.Dir, c.file)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(content), c.from) {
				t.Fatalf("%s has no %s", c.file, c.from)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(content), c.from, c.to, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			result := wantRefused(t, l, 2, []string{c.want})
			_, rest, _ := strings.Cut(result.Stderr, c.want)
			if rest == "" || rest[0] < '1' || rest[0] > '9' {
				t.Errorf("no line number after the file: %s", result.Stderr)
			}
		})
	}
}

func TestAnInterruptedUpUndoesEverything(t *testing.T) {
	for i, c := range []struct {
		variant labtest.Variant
		after   string
		signal  syscall.Signal
	}{
		{labtest.Variant{Engine: "netns"}, "keys and certificates", syscall.SIGINT},
		{labtest.Variant{Engine: "netns", Unprivileged: true}, "services", syscall.SIGTERM},
		{labtest.Variant{Engine: "loopback"}, "agents and mongod", syscall.SIGINT},
	} {
		t.Run(c.variant.String()+" after "+c.after, func(t *testing.T) {
			l := labtest.New(t, c.variant, 1340+10*i)
			left := trace{lab: l, before: lookAtHost(t)}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			command := l.Command(ctx, "up", "--engine", l.Engine, "--port-offset", fmt.Sprint(l.Offset))
			pipe, err := command.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			output := bufio.NewScanner(pipe)
			var said strings.Builder
			sent := false
			for output.Scan() {
				fmt.Fprintln(&said, output.Text())
				if sent || !strings.Contains(output.Text(), "ok  "+c.after) {
					continue
				}
				sent = true
				options := options(t, l)
				left.processes, left.index = tree(t, options.PID), options.Index
				if err := command.Process.Signal(c.signal); err != nil {
					t.Fatal(err)
				}
			}
			err = command.Wait()
			if code := command.ProcessState.ExitCode(); code != 130 || !sent {
				t.Errorf("exit code %d (%v), signal sent: %t; it said:\n%s", code, err, sent, &said)
			}
			left.wantGone(t)
			wantNoDoor(t, l)
		})
	}
}

func TestAProgramThatEndsAtOnceFailsUpWithItsLastWords(t *testing.T) {
	l := labtest.New(t, labtest.Variant{Engine: "loopback"}, 1380)
	web := filepath.Join(l.OwnPrograms(), "web")
	if err := os.Remove(web); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(web, []byte("#!/bin/sh\necho first words\necho the page has been lost >&2\nexit 41\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	wantRefused(t, l, 2, []string{
		"step:", "the process ended: exit code 41", "last lines of web-", "first words", "the page has been lost",
		"try:", "sluice logs",
	})
	if took := time.Since(began); took > 45*time.Second {
		t.Errorf("it took %s to see that a process had ended", took)
	}
	if _, err := os.Stat(filepath.Join(l.State, "logs", "web-1", "web.log")); err != nil {
		t.Errorf("the log is gone, which the message points to: %v", err)
	}
}

func TestAnUpThatTakesTooLongSaysWhatItWaitedFor(t *testing.T) {
	l := labtest.New(t, labtest.Variant{Engine: "loopback"}, 1390)
	wantRefused(t, l, 2, []string{"step:", "the whole took longer than 1s", "--timeout", "last seen:", "try:"}, "--timeout", "1s")
}

// A lab in network namespaces and one on the host's loopback: neither may be in
// the other's way, and each must be the one that its folder says.
func TestTwoLabsRunSideBySide(t *testing.T) {
	first := labtest.New(t, labtest.Variant{Engine: "netns"}, 1400)
	second := labtest.New(t, labtest.Variant{Engine: "loopback"}, 1410)
	third := labtest.New(t, labtest.Variant{Engine: "loopback"}, 1420)
	for _, l := range []*labtest.Lab{first, second, third} {
		l.Up()
	}
	seen := map[string]bool{}
	for _, l := range []*labtest.Lab{first, second, third} {
		life := &life{Lab: l}
		wantPages(t, life, 20*time.Second)
		_, body, err := l.Page("application/json")
		if err != nil {
			t.Fatal(err)
		}
		var page struct {
			Identity struct {
				ID string `json:"spiffe_id"`
			} `json:"identity"`
		}
		if err := json.Unmarshal([]byte(body), &page); err != nil {
			t.Fatal(err)
		}
		seen[page.Identity.ID] = true
	}
	if len(seen) != 3 {
		t.Errorf("three labs have %d trust domains: %v", len(seen), seen)
	}
	first.Must("intentions", "deny", "gateway", "web")
	if code, _, err := first.Page("application/json"); err != nil || code != 403 {
		t.Errorf("the first lab's page after a deny: %d, %v", code, err)
	}
	second.Must("down")
	wantPages(t, &life{Lab: third}, 10*time.Second)
	if status := first.Status(); len(status.Nodes) != 7 {
		t.Errorf("the first lab after the second's end: %d nodes", len(status.Nodes))
	}
}

// A process that lives is not enough: nobody answers, so the edge does not work.
func TestAnEdgeThatCarriesNothingFailsUp(t *testing.T) {
	l := labtest.New(t, labtest.Variant{Engine: "loopback"}, 1430)
	web := filepath.Join(l.OwnPrograms(), "web")
	if err := os.Remove(web); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(web, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, l, 2, []string{
		"step:  a request across every allowed edge", "carries a request", "the whole took longer than 25s",
		"last seen:", "last lines of", "try:",
	}, "--timeout", "25s")
}
