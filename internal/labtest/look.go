package labtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/lab"
)

// Status returns `sluice status -o json`.
func (l *Lab) Status() lab.Status {
	l.t.Helper()
	var status lab.Status
	if err := json.Unmarshal([]byte(l.Must("status", "-o", "json").Stdout), &status); err != nil {
		l.t.Fatalf("read the status: %v", err)
	}
	return status
}

// Client returns a client of the lab's supervisor, for the user who runs the
// test; the supervisor takes root as well as its own user.
func (l *Lab) Client() *lab.Client {
	l.t.Helper()
	client, err := lab.NewClient(l.State)
	if err != nil {
		l.t.Fatal(err)
	}
	return client
}

// URL returns the address of a path at one of the host's ports: 9999 (gateway),
// 9998 (admin) or 8500 (Consul).
func (l *Lab) URL(port int, path string) string {
	return fmt.Sprintf("http://127.0.0.1:%d%s", port+l.Offset, path)
}

// Page asks the gateway for /web as a program does, on a connection of its own.
func (l *Lab) Page(accept string) (int, string, error) {
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	request, err := http.NewRequest(http.MethodGet, l.URL(9999, "/web"), nil)
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Accept", accept)
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	return response.StatusCode, string(body), err
}

// Eventually polls a named condition until it holds; the test fails when it does
// not hold within the bound.
func Eventually(t testing.TB, within time.Duration, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %v", within, what, err)
		}
		<-ticker.C
	}
}

// Processes returns every process of this machine whose command line names the
// lab's state folder, as "pid (status) command".
func (l *Lab) Processes() []string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		l.t.Fatal(err)
	}
	var found []string
	for _, entry := range entries {
		line, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err != nil || !bytes.Contains(line, []byte(l.State)) {
			continue
		}
		found = append(found, entry.Name()+" ("+status(entry.Name())+") "+strings.ReplaceAll(string(line), "\x00", " "))
	}
	return found
}

// status returns the state and the pending signals of a process: a process that
// was killed and lives is one that the kernel holds (D, with SIGKILL pending) or
// one that the signal never reached.
func status(pid string) string {
	content, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
	if err != nil {
		return err.Error()
	}
	var words []string
	for line := range strings.Lines(string(content)) {
		if name, _, _ := strings.Cut(line, ":"); name == "State" || name == "PPid" || name == "SigPnd" || name == "ShdPnd" {
			words = append(words, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(words, ", ")
}

func tail(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(string(content), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
