package lab_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/internal/labtest"
	"sluice/lab"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// life is one lab from its first `up` to its last `down`, shared by the claims
// about it, which are made in this order.
type life struct {
	*labtest.Lab
	before  host
	outputs []string
}

// claim is one thing that must hold of a running lab.
type claim struct {
	name string
	hold func(*testing.T, *life)
	// once is set where one variant speaks for all.
	once bool
}

func TestALabLivesAndEndsAsPromisedInNetworkNamespaces(t *testing.T) {
	live(t, labtest.Variant{Engine: "netns"}, 1000)
}

func TestALabLivesAndEndsAsPromisedWithoutRoot(t *testing.T) {
	live(t, labtest.Variant{Engine: "netns", Unprivileged: true}, 1100)
}

func TestALabLivesAndEndsAsPromisedOnOneLoopback(t *testing.T) {
	live(t, labtest.Variant{Engine: "loopback"}, 1200)
}

func live(t *testing.T, variant labtest.Variant, offset int) {
	l := &life{before: lookAtHost(t), Lab: labtest.New(t, variant, offset)}
	for _, claim := range claims() {
		// What takes long and knows nothing of engines is proven in one.
		if claim.once && variant != (labtest.Variant{Engine: "netns"}) {
			continue
		}
		if !t.Run(claim.name, func(t *testing.T) { claim.hold(t, l) }) {
			return
		}
	}
}

func claims() []claim {
	return []claim{
		{"of two up at once one starts the lab and the other finds it", upTwice, false},
		{"the page comes from both web with data of the primary", pagesFromBoth, false},
		{"status is one JSON document and knows every node", statusIsOneDocument, false},
		{"exec passes everything through", execPassesThrough, false},
		{"exec passes a signal to the command", execPassesSignals, false},
		{"exec ends the command when its client is gone", execEndsOrphans, false},
		{"exec on an unknown node lists those that exist", execUnknownNode, false},
		{"logs shows and follows", logsShowAndFollow, false},
		{"a fault shows in status and heals", faultsHeal, false},
		{"a process told to end stays down until it is healed", termStaysDown, false},
		{"a one-way cut shows its direction, and heals", oneWayCut, false},
		{"mongo status knows the set, and a step-down moves the primary", stepDownMoves, false},
		{"a member that starts empty copies everything", resyncCopies, true},
		{"a rolling restart restarts every member, and ends whole", rollingRestarts, true},
		{"a member whose clock is an hour off serves, and is set right", clockIsOff, true},
		{"another profile than that of the kept state is refused", profileIsKept, true},
		{"a nonsense target of a fault is refused", nonsenseFaults, false},
		{"certs rotate renews every leaf while pages keep coming", rotateKeepsServing, true},
		{"everything in the state folder is closed to others", closedToOthers, false},
		{"no secret is on a command line or in a log", noSecretInSight, false},
		{"kill -9 of the supervisor leaves nothing, and the next up keeps the data", killedSupervisor, false},
		{"down leaves nothing, and twice is no error", downLeavesNothing, false},
	}
}

// must is Must that keeps what was printed, for noSecretInSight.
func (l *life) must(t *testing.T, args ...string) labtest.Result {
	t.Helper()
	result := l.Run(args...)
	l.outputs = append(l.outputs, result.Stdout, result.Stderr)
	if result.Code != 0 {
		t.Fatalf("sluice %s: %s", strings.Join(args, " "), result)
	}
	return result
}

// wantExit runs the program and wants an exit code and words on stderr.
func (l *life) wantExit(t *testing.T, code int, words []string, args ...string) {
	t.Helper()
	result := l.Run(args...)
	l.outputs = append(l.outputs, result.Stdout, result.Stderr)
	if result.Code != code {
		t.Errorf("sluice %s: want exit code %d: %s", strings.Join(args, " "), code, result)
	}
	for _, word := range words {
		if !strings.Contains(result.Stderr, word) {
			t.Errorf("sluice %s: want %q on stderr: %s", strings.Join(args, " "), word, result.Stderr)
		}
	}
}

func (l *life) up(t *testing.T, args ...string) labtest.Result {
	t.Helper()
	return l.must(t, append([]string{"up", "--engine", l.Engine, "--port-offset", fmt.Sprint(l.Offset)}, args...)...)
}

func upTwice(t *testing.T, l *life) {
	second := make(chan labtest.Result)
	go func() { second <- l.Run("up", "--engine", l.Engine, "--port-offset", fmt.Sprint(l.Offset)) }()
	first := l.Run("up", "--engine", l.Engine, "--port-offset", fmt.Sprint(l.Offset))
	found := 0
	for _, result := range []labtest.Result{first, <-second} {
		if result.Code != 0 {
			t.Fatalf("up: %s", result)
		}
		already := strings.Contains(result.Stderr, "already running")
		if already {
			found++
		}
		if l.showsPassword(t, result) == already {
			t.Errorf("the up that started the lab shows the administrator's password, and no other: %s", result)
		}
	}
	if found != 1 {
		t.Fatalf("%d of two found a running lab, want 1", found)
	}
	if again := l.up(t); l.showsPassword(t, again) {
		t.Errorf("the administrator's password is shown again: %s", again)
	}
	third := l.up(t, "-o", "json")
	if !strings.Contains(third.Stderr, "already running") {
		t.Errorf("a second up does not say that the lab runs: %s", third)
	}
	var started lab.Started
	if err := json.Unmarshal([]byte(third.Stdout), &started); err != nil {
		t.Fatal(err)
	}
	summary := started.Summary
	if !started.Already || summary.Seconds <= 0 || summary.MemoryMB <= 0 || len(summary.URLs) != 3 {
		t.Errorf("the summary of a running lab is %+v", started)
	}
	logSummary(t, summary)
}

// showsPassword reports whether a command printed the password of the blog's
// administrator.
func (l *life) showsPassword(t *testing.T, result labtest.Result) bool {
	t.Helper()
	password, err := os.ReadFile(filepath.Join(l.State, "secrets", "blog-admin.password"))
	if err != nil || len(password) < 20 {
		t.Fatalf("%d characters: %v", len(password), err)
	}
	return strings.Contains(result.Stdout+result.Stderr, strings.TrimSpace(string(password)))
}

func logSummary(t *testing.T, summary lab.Summary) {
	t.Helper()
	var line strings.Builder
	for _, phase := range summary.Phases {
		fmt.Fprintf(&line, "; %s %.1f s", phase.Name, phase.Seconds)
	}
	for _, memory := range summary.Memory {
		fmt.Fprintf(&line, "; %d %s %.0f MB", memory.Count, memory.Name, memory.MB)
	}
	t.Logf("up: %.1f s, %.0f MB%s", summary.Seconds, summary.MemoryMB, &line)
}

// page is what the blog answers to a program, as far as these tests read it.
type page struct {
	Instance  string   `json:"instance"`
	IsPrimary bool     `json:"is_primary"`
	Me        string   `json:"me"`
	Primary   string   `json:"primary"`
	Hosts     []string `json:"hosts"`
	Entries   []struct {
		Title string `json:"title"`
	} `json:"entries"`
}

func (l *life) page() (page, error) {
	code, body, err := l.Page("application/json")
	if err != nil {
		return page{}, err
	}
	if code != http.StatusOK {
		return page{}, fmt.Errorf("the page answers %d: %.300s", code, body)
	}
	var p page
	return p, json.Unmarshal([]byte(body), &p)
}

// wantPages wants good pages from both web in a row.
func wantPages(t *testing.T, l *life, within time.Duration) {
	t.Helper()
	labtest.Eventually(t, within, "both web answer with data of the primary", func() error {
		seen := map[string]bool{}
		for range 20 {
			p, err := l.page()
			if err != nil {
				return err
			}
			if !p.IsPrimary || p.Me != p.Primary || len(p.Hosts) != 3 {
				return fmt.Errorf("no data of a primary of three: %+v", p)
			}
			seen[p.Instance] = true
			if seen["web-web-1"] && seen["web-web-2"] {
				return nil
			}
		}
		return fmt.Errorf("only %v answered", seen)
	})
}

func pagesFromBoth(t *testing.T, l *life) {
	wantPages(t, l, 20*time.Second)
	code, body, err := l.Page("text/html")
	if err != nil || code != http.StatusOK || !strings.Contains(body, "127.0.0.1:5501") && !strings.Contains(body, "mongo-primary") {
		t.Errorf("the page for people: %d, %v: %.300s", code, err, body)
	}
}

func statusIsOneDocument(t *testing.T, l *life) {
	decoder := json.NewDecoder(strings.NewReader(l.must(t, "status", "-o", "json").Stdout))
	var status lab.Status
	if err := decoder.Decode(&status); err != nil {
		t.Fatal(err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		t.Error("more than one JSON document")
	}
	if len(status.Nodes) != 7 || string(status.Engine) != l.Engine || status.Segmented != (l.Engine == "netns") {
		t.Errorf("%d nodes, engine %s, segmented %t", len(status.Nodes), status.Engine, status.Segmented)
	}
	for _, node := range status.Nodes {
		for _, process := range node.Processes {
			if process.State != "running" || process.PID == 0 || (process.Healthy != nil && !*process.Healthy) {
				t.Errorf("%s/%s: %+v", node.Name, process.Name, process)
			}
		}
	}
	text := l.must(t, "status").Stdout
	if strings.Contains(text, "NOT SEGMENTED") != (l.Engine == "loopback") {
		t.Errorf("status for people does not say whether nodes are kept apart:\n%s", text)
	}
	for _, edge := range []string{"gateway -> web", "web -> mongo-primary", "web -> mongo-secondary", "mongo-repl -> mongo-repl"} {
		if !strings.Contains(text, edge) {
			t.Errorf("status does not show %s:\n%s", edge, text)
		}
	}
}

func execPassesThrough(t *testing.T, l *life) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	command := l.Command(ctx, "exec", "web-1", "--", "sh", "-c", `
		cat; echo to stderr >&2
		echo "$CONSUL_HTTP_ADDR"; wc -c < "$CONSUL_HTTP_TOKEN_FILE"; pwd; exit 37`)
	var stdout, stderr bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader("from stdin\n"), &stdout, &stderr
	err := command.Run()
	if command.ProcessState.ExitCode() != 37 {
		t.Errorf("exit code %d (%v), want 37; stderr %s", command.ProcessState.ExitCode(), err, &stderr)
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	address := "127.0.0.1:8500"
	if l.Engine == "loopback" {
		address = "unix://" + filepath.Join(l.State, "nodes", "web-1", "http.sock")
	}
	if want := []string{"from stdin", address, "36", l.Dir}; !slices.Equal(lines, want) || stderr.String() != "to stderr\n" {
		t.Errorf("stdout %q, stderr %q; want %q", lines, &stderr, want)
	}
	// The node's own token sees every node.
	members := l.must(t, "exec", "web-1", "--", "consul", "members").Stdout
	if !strings.Contains(members, "web-1") || !strings.Contains(members, "alive") || !strings.Contains(members, "mongo-3") {
		t.Errorf("consul members on web-1:\n%s", members)
	}
	l.wantExit(t, 127, []string{"no-such-program"}, "exec", "web-1", "--", "no-such-program")
}

func execPassesSignals(t *testing.T, l *life) {
	script := `trap 'echo got it; exit 9' INT; echo ready; while :; do sleep 0.05; done`
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	command := l.Command(ctx, "exec", "web-2", "--", "sh", "-c", script)
	pipe, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	output := bufio.NewScanner(pipe)
	if !output.Scan() || output.Text() != "ready" {
		t.Fatalf("the command said %q", output.Text())
	}
	if err := command.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if !output.Scan() || output.Text() != "got it" {
		t.Errorf("the signal did not reach the command: it said %q", output.Text())
	}
	if err := command.Wait(); command.ProcessState.ExitCode() != 9 {
		t.Errorf("exit code %d, want the command's own 9: %v", command.ProcessState.ExitCode(), err)
	}
}

func execEndsOrphans(t *testing.T, l *life) {
	mark := fmt.Sprintf("3%d.%d", l.Offset, os.Getpid())
	command := l.Command(t.Context(), "exec", "web-2", "--", "sleep", mark)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	sleeping := func() bool {
		for _, process := range tree(t, options(t, l.Lab).PID) {
			line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", process.pid))
			if err == nil && strings.Contains(string(line), "sleep\x00"+mark) {
				return true
			}
		}
		return false
	}
	labtest.Eventually(t, 10*time.Second, "the command runs", func() error {
		if !sleeping() {
			return errors.New("it does not")
		}
		return nil
	})
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait()
	labtest.Eventually(t, 10*time.Second, "the command has ended with its client", func() error {
		if sleeping() {
			return errors.New("it runs on")
		}
		return nil
	})
}

func execUnknownNode(t *testing.T, l *life) {
	l.wantExit(t, 2, []string{`no node "web-9"`, "web-1", "mongo-3", "consul-1"}, "exec", "web-9", "--", "true")
}

func logsShowAndFollow(t *testing.T, l *life) {
	one := l.must(t, "logs", "mongo-1/mongod", "-n", "3").Stdout
	if lines := strings.Count(one, "\n"); lines != 3 || strings.Contains(one, " | {") {
		t.Errorf("%d lines of one process, want 3 without its name:\n%s", lines, one)
	}
	node := l.must(t, "logs", "web-1", "-n", "1").Stdout
	if !strings.Contains(node, "web-1/consul | ") || strings.Contains(node, "web-2/") {
		t.Errorf("the logs of a node:\n%s", node)
	}
	l.wantExit(t, 2, []string{`no process "web-1/nope"`}, "logs", "web-1/nope")

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	command := l.Command(ctx, "logs", "web-1/consul", "-f", "-n", "1")
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGINT) }
	pipe, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	output := bufio.NewScanner(pipe)
	if !output.Scan() {
		t.Fatal("logs -f shows nothing")
	}
	// What is appended to the file is what the process writes.
	log := filepath.Join(l.State, "logs", "web-1", "consul.log")
	file, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(file, "a line for the follower"); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	for output.Scan() && output.Text() != "a line for the follower" {
	}
	if output.Text() != "a line for the follower" {
		t.Error("logs -f does not go on")
	}
	cancel()
	_, _ = io.Copy(io.Discard, pipe)
	if err := command.Wait(); command.ProcessState.ExitCode() != 0 {
		t.Errorf("an interrupted logs -f ends with %d: %v", command.ProcessState.ExitCode(), err)
	}
}

// process returns what status says of a process.
func (l *life) process(node, name string) lab.ProcessStatus {
	for _, n := range l.Status().Nodes {
		for _, p := range n.Processes {
			if n.Name == node && p.Name == name {
				return p
			}
		}
	}
	return lab.ProcessStatus{}
}

func faultsHeal(t *testing.T, l *life) {
	pid := l.process("web-1", "web").PID
	l.must(t, "fault", "restart", "web-1/web")
	if p := l.process("web-1", "web"); p.Restarts != 1 || p.PID == pid || p.State != "running" {
		t.Errorf("after restart: %+v", p)
	}
	l.must(t, "fault", "kill", "web-1/web")
	if p := l.process("web-1", "web"); !strings.Contains(p.State, "KILL") {
		t.Errorf("after kill: %+v", p)
	}
	l.wantExit(t, 2, []string{"not running", "sluice fault restart web-1/web"}, "fault", "stop", "web-1/web")
	l.must(t, "fault", "stop", "web-2/consul")
	if p := l.process("web-2", "consul"); p.State != "stopped" {
		t.Errorf("after stop: %+v", p)
	}
	l.must(t, "fault", "cont", "web-2/consul")
	if p := l.process("web-2", "consul"); p.State != "running" {
		t.Errorf("after cont: %+v", p)
	}
	l.must(t, "fault", "kill", "mongo-1/mongod")
	l.must(t, "fault", "stop", "gateway-1")
	if l.Engine == "netns" {
		l.must(t, "fault", "cut", "mongo-2")
		for _, node := range l.Status().Nodes {
			if node.Cut != (node.Name == "mongo-2") {
				t.Errorf("%s: cut %t", node.Name, node.Cut)
			}
		}
	} else {
		l.wantExit(t, 2, []string{"cut mongo-2", "--engine netns"}, "fault", "cut", "mongo-2")
	}
	healed := l.must(t, "fault", "heal", "--all").Stderr
	for _, want := range []string{"restarted web-1/web", "restarted mongo-1/mongod", "continued gateway-1/gateway", "continued gateway-1/consul"} {
		if !strings.Contains(healed, want) {
			t.Errorf("heal --all does not say %q:\n%s", want, healed)
		}
	}
	began := time.Now()
	wantPages(t, l, time.Minute)
	t.Logf("good pages from both web %.1f s after heal --all", time.Since(began).Seconds())
	if again := l.must(t, "fault", "heal", "--all").Stderr; !strings.Contains(again, "nothing to heal") {
		t.Errorf("healing twice: %s", again)
	}
}

func nonsenseFaults(t *testing.T, l *life) {
	for _, c := range []struct {
		line string
		want string
	}{
		{"kill nope", `no node "nope"`},
		{"stop web-1/nope", `no process "nope" on web-1`},
		{"restart web-1/", `no process "" on web-1`},
		{"kill /web", `no node ""`},
		{"kill dc1", `no node "dc1"`},
		{"cut web-1/web", "cut wants a node or a datacenter"},
		{"cut dc9", `no node "dc9"`},
		{"cut web-1 --direction sideways", `direction "sideways": want both, in or out`},
		{"cut dc1 --from dc9", "want two datacenters that run"},
		{"cut web-1 --from dc1", "want two datacenters that run"},
		{"term web-1/nope", `no process "nope" on web-1`},
		{"disk web-1 full", `no process "mongod" on web-1`},
		{"disk mongo-1 slow", `"slow": want full or stall`},
		{"clock web-1 --ahead 1h", `no process "mongod" on web-1`},
		{"clock mongo-1 --behind 1ms", "want whole seconds"},
		{"heal nope", `no node "nope"`},
		{"heal web-1/nope", `no process "nope" on web-1`},
	} {
		l.wantExit(t, 2, []string{c.want}, append([]string{"fault"}, strings.Fields(c.line)...)...)
	}
}

// certificateRow is a line of `certs show -o json`.
type certificateRow struct {
	Node      string    `json:"node"`
	ID        string    `json:"id"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before"`
	Chain     string    `json:"chain"`
}

func certificates(t *testing.T, text string) map[string]certificateRow {
	t.Helper()
	var rows []certificateRow
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	leaves := map[string]certificateRow{}
	for _, row := range rows {
		leaves[row.Node+" "+row.ID] = row
	}
	return leaves
}

func rotateKeepsServing(t *testing.T, l *life) {
	before := certificates(t, l.must(t, "certs", "show", "-o", "json").Stdout)
	oldRoot := l.activeRoot(t)
	stop, failed := make(chan struct{}), make(chan error, 1)
	pages := 0
	go func() {
		defer close(failed)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := l.page(); err != nil {
				failed <- err
				return
			}
			pages++
		}
	}()
	began := time.Now()
	after := certificates(t, l.must(t, "certs", "rotate", "-o", "json").Stdout)
	took := time.Since(began)
	close(stop)
	if err := <-failed; err != nil {
		t.Errorf("a page failed during the rotation: %v", err)
	}
	t.Logf("%d leaves renewed in %.1f s; %d pages meanwhile", len(after), took.Seconds(), pages)
	if pages == 0 {
		t.Error("no page was asked for during the rotation")
	}
	if root := l.activeRoot(t); root == oldRoot {
		t.Error("the root is still the old one")
	}
	if len(after) != len(before) || len(after) < 12 {
		t.Errorf("%d leaves before, %d after", len(before), len(after))
	}
	for name, leaf := range after {
		if leaf.Serial == before[name].Serial || leaf.Chain != "ok" {
			t.Errorf("%s was not renewed: %+v, before %+v", name, leaf, before[name])
		}
	}
}

// activeRoot asks Consul which root signs, as a person at its page would.
func (l *life) activeRoot(t *testing.T) string {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(l.State, "secrets", "ui.token"))
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, l.URL(8500, "/v1/connect/ca/roots"), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Consul-Token", strings.TrimSpace(string(token)))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var roots struct{ ActiveRootID string }
	if err := json.NewDecoder(response.Body).Decode(&roots); err != nil || roots.ActiveRootID == "" {
		t.Fatalf("ask for the roots: %s, %v", response.Status, err)
	}
	return roots.ActiveRootID
}

func closedToOthers(t *testing.T, l *life) {
	err := filepath.WalkDir(l.State, func(path string, entry fs.DirEntry, err error) error {
		// Data files come and go while we look.
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			t.Errorf("%s has mode %04o", strings.TrimPrefix(path, l.State), mode)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func noSecretInSight(t *testing.T, l *life) {
	secrets := map[string]string{}
	for _, path := range glob(t, filepath.Join(l.State, "secrets", "*")) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		secret := strings.TrimSpace(string(content))
		// Of a long key any line would do; its beginning does.
		secrets[filepath.Base(path)] = secret[:min(len(secret), 64)]
	}
	if len(secrets) < 15 {
		t.Fatalf("only %d secrets found", len(secrets))
	}
	look := func(where string, content []byte) {
		for name, secret := range secrets {
			if len(secret) < 16 {
				t.Errorf("%s holds only %d characters", name, len(secret))
			}
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("the secret of %s is in %s", name, where)
			}
		}
	}
	looked := 0
	for _, process := range tree(t, options(t, l.Lab).PID) {
		for _, file := range []string{"cmdline", "environ"} {
			if content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", process.pid, file)); err == nil && len(content) > 0 {
				looked++
				look(fmt.Sprintf("%s of pid %d", file, process.pid), content)
			}
		}
	}
	if looked < 30 {
		t.Errorf("only %d command lines and environments could be read", looked)
	}
	logs := glob(t, filepath.Join(l.State, "logs", "*.log"), filepath.Join(l.State, "logs", "*", "*"))
	for _, path := range append(logs, filepath.Join(l.State, "lab.json")) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		look(path, content)
	}
	if len(logs) < 15 {
		t.Errorf("only %d logs", len(logs))
	}
	for _, output := range l.outputs {
		look("what the program printed", []byte(output))
	}
}

func glob(t *testing.T, patterns ...string) []string {
	t.Helper()
	var all []string
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, paths...)
	}
	return all
}

const keptEntry = "written before the crash"

func killedSupervisor(t *testing.T, l *life) {
	form := url.Values{"title": {keptEntry}, "body": {"still here"}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, l.URL(9999, "/web/entries"), strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		t.Fatalf("write an entry: %s", response.Status)
	}
	if l.Engine == "netns" {
		// In a PID namespace nothing can get away, whatever it does.
		l.must(t, "exec", "web-1", "--", "sh", "-c", "setsid sleep 5000 </dev/null >/dev/null 2>&1 &")
	}
	left := traceOf(t, l.Lab, l.before)
	if err := syscall.Kill(options(t, l.Lab).PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	left.wantGone(t)
	l.wantExit(t, 2, []string{"no lab is running", "sluice up"}, "status")

	again := l.up(t, "-o", "json")
	if !strings.Contains(again.Stderr, "did not end properly") {
		t.Errorf("up after a crash does not say that it cleans up: %s", again.Stderr)
	}
	var started lab.Started
	if err := json.Unmarshal([]byte(again.Stdout), &started); err != nil {
		t.Fatal(err)
	}
	logSummary(t, started.Summary)
	wantPages(t, l, 20*time.Second)
	labtest.Eventually(t, 20*time.Second, "the entry from before the crash is on the page", func() error {
		p, err := l.page() // from a member that may have to catch up
		if err == nil && (len(p.Entries) != 1 || p.Entries[0].Title != keptEntry) {
			err = fmt.Errorf("the page has %+v", p)
		}
		return err
	})
}

func downLeavesNothing(t *testing.T, l *life) {
	left := traceOf(t, l.Lab, l.before)
	began := time.Now()
	l.must(t, "down")
	t.Logf("down: %.1f s", time.Since(began).Seconds())
	// Nothing may be left the moment that down returns, so nothing is waited for.
	for _, process := range left.processes {
		if process.alive() {
			t.Errorf("pid %d is left when down returns", process.pid)
		}
	}
	left.wantGone(t)
	wantNoDoor(t, l.Lab)
	if again := l.must(t, "down"); !strings.Contains(again.Stderr, "no lab was running") {
		t.Errorf("down twice: %s", again)
	}
	l.must(t, "down", "--purge")
	if _, err := os.Lstat(l.State); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("down --purge left the state folder: %v", err)
	}
}
