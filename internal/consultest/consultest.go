// Package consultest runs real Consul agents for tests. It is imported by tests
// only.
//
// Each agent has a loopback address of its own, chosen at random in 127/8, so
// that it uses Consul's usual ports, two tests never meet, and a restart finds
// its ports free. Configuration: ACLs with default deny, default_intention_policy
// deny, Connect on, no TLS for the HTTP API, raft_multiplier 1. The agent is killed
// when the test ends, and by the kernel if the test process dies.
//
// After a root rotation an agent renews its leaves within 30 s, at random. The key
// connect.test_ca_leaf_root_change_spread does not help: Consul's own defaults
// override what a file says.
//
// The harness speaks plain HTTP: it shares no code with what it helps to test.
package consultest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-uuid"

	"sluice/internal/binaries"
)

const (
	startTimeout = 30 * time.Second
	pollEvery    = 20 * time.Millisecond
)

// Config says what kind of agent to start. The zero Config is a server of a
// datacenter of its own, dc1.
type Config struct {
	// Join makes the agent a client of this server.
	Join *Agent
	// Node is the node's name; default "node-" and a random number.
	Node string
	// DefaultIntentions is default_intention_policy; default "deny".
	DefaultIntentions string
	// Extra is merged over the agent's configuration.
	Extra map[string]any
}

// Agent is a running Consul agent. It belongs to one test.
type Agent struct {
	// Address is "host:port" of the HTTP API.
	Address string
	// Host is the loopback address of everything that the agent listens on.
	Host string
	Node string

	t          testing.TB
	dir        string
	config     map[string]any
	members    []string // of a server: where its clients are
	management string
	process    *exec.Cmd
	exited     chan struct{}
}

// Start starts an agent and waits until it works: a server until it signs leaves,
// a client until its server answers through it. The test fails if the Consul
// binary is missing and SLUICE_REQUIRE is 1, and is skipped if it is not.
func Start(t testing.TB, cfg Config) *Agent {
	t.Helper()
	path, err := binaries.Consul()
	if err != nil {
		if os.Getenv("SLUICE_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	a := &Agent{t: t, Host: freeHost(t), Node: cfg.Node, dir: t.TempDir()}
	a.Address = net.JoinHostPort(a.Host, "8500")
	if a.Node == "" {
		a.Node = fmt.Sprintf("node-%d", rand.IntN(1_000_000))
	}
	if a.management, err = uuid.GenerateUUID(); err != nil {
		t.Fatal(err)
	}
	if cfg.Join != nil {
		a.management = cfg.Join.management
		cfg.Join.members = append(cfg.Join.members, net.JoinHostPort(a.Host, "8301"))
	}
	a.configure(cfg)
	t.Cleanup(a.Kill)
	a.start(path)
	a.AwaitWorking()
	return a
}

// freeHost returns a loopback address on which Consul's ports are free.
func freeHost(t testing.TB) string {
	t.Helper()
	for range 100 {
		host := fmt.Sprintf("127.%d.%d.%d", 64+rand.IntN(180), rand.IntN(256), 1+rand.IntN(250))
		listener, err := net.Listen("tcp", net.JoinHostPort(host, "8300"))
		if err == nil {
			_ = listener.Close()
			return host
		}
	}
	t.Fatal("no free loopback address")
	return ""
}

func (a *Agent) configure(cfg Config) {
	a.t.Helper()
	config := map[string]any{
		"node_name": a.Node, "datacenter": "dc1", "data_dir": filepath.Join(a.dir, "data"),
		"bind_addr": a.Host, "client_addr": a.Host, "log_level": "warn",
		"ports":                    map[string]any{"dns": -1, "grpc": -1, "grpc_tls": -1},
		"disable_update_check":     true,
		"leave_on_terminate":       false,
		"skip_leave_on_interrupt":  true,
		"default_intention_policy": "deny",
		"performance":              map[string]any{"raft_multiplier": 1},
		"limits":                   map[string]any{"http_max_conns_per_client": 4000},
		"acl": map[string]any{
			"enabled": true, "default_policy": "deny", "enable_token_persistence": false,
			"tokens": map[string]any{"initial_management": a.management, "agent": a.management},
		},
		"connect": map[string]any{"enabled": true},
	}
	if cfg.DefaultIntentions != "" {
		config["default_intention_policy"] = cfg.DefaultIntentions
	}
	if cfg.Join == nil {
		config["server"], config["bootstrap_expect"] = true, 1
	} else {
		config["retry_join"] = []string{net.JoinHostPort(cfg.Join.Host, "8301")}
		config["retry_interval"] = "1s"
	}
	maps.Copy(config, cfg.Extra)
	a.config = config
}

func (a *Agent) writeConfig() {
	a.t.Helper()
	if len(a.members) > 0 {
		// A server that was killed does not remember its clients, and waits up to
		// 30 s until they come to it.
		a.config["retry_join"] = a.members
	}
	data, err := json.Marshal(a.config)
	if err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a.dir, "consul.json"), data, 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a *Agent) start(path string) {
	a.t.Helper()
	a.writeConfig()
	output, err := os.OpenFile(a.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		a.t.Fatal(err)
	}
	defer output.Close()
	process := exec.Command(path, "agent", "-config-file", filepath.Join(a.dir, "consul.json"))
	process.Stdout, process.Stderr = output, output
	process.Env = []string{"HOME=" + a.dir, "PATH=" + os.Getenv("PATH")}
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := process.Start(); err != nil {
		a.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = process.Wait(); close(exited) }()
	a.process, a.exited = process, exited
}

func (a *Agent) logFile() string { return filepath.Join(a.dir, "consul.log") }

// Stop freezes the agent (SIGSTOP) and waits until it is frozen: connections stay
// open, nothing answers.
func (a *Agent) Stop() {
	a.t.Helper()
	a.signal(syscall.SIGSTOP)
	Await(a.t, 5*time.Second, "the agent is frozen", func() error {
		return threadsStopped(a.process.Process.Pid)
	})
}

// threadsStopped reports whether every thread of a process is stopped: the signal
// reaches them one after the other.
func threadsStopped(pid int) error {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(files) == 0 {
		return errors.Join(err, errors.New("no threads found"))
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		// "pid (name) state ...", and the name may hold anything.
		_, rest, _ := bytes.Cut(data[bytes.LastIndexByte(data, ')')+1:], []byte(" "))
		if len(rest) == 0 || rest[0] != 'T' {
			return fmt.Errorf("%s: %.40s", file, data)
		}
	}
	return nil
}

// Continue lets a stopped agent run again.
func (a *Agent) Continue() { a.signal(syscall.SIGCONT) }

// Kill kills the agent (SIGKILL) and waits until it is gone. A second Kill does
// nothing.
func (a *Agent) Kill() {
	if a.process == nil {
		return
	}
	_ = a.process.Process.Kill()
	<-a.exited
	a.process = nil
}

// Restart starts a killed agent again, with the same data and addresses, and
// returns as soon as the process runs: it does not wait until it works.
func (a *Agent) Restart() {
	a.t.Helper()
	path, err := binaries.Consul()
	if err != nil {
		a.t.Fatal(err)
	}
	a.Kill()
	a.start(path)
}

// Forget removes what a killed agent keeps on disk about its own services and
// checks, so that it forgets them when it starts again.
func (a *Agent) Forget() {
	a.t.Helper()
	for _, name := range []string{"services", "checks"} {
		if err := os.RemoveAll(filepath.Join(a.dir, "data", name)); err != nil {
			a.t.Fatal(err)
		}
	}
}

func (a *Agent) signal(signal syscall.Signal) {
	a.t.Helper()
	if err := a.process.Process.Signal(signal); err != nil {
		a.t.Fatal(err)
	}
}

// PID returns the process ID of the running agent.
func (a *Agent) PID() int { return a.process.Process.Pid }

// AwaitWorking waits until the agent answers from its servers and signs leaves.
func (a *Agent) AwaitWorking() {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := a.working(ctx)
		if err == nil {
			return
		}
		select {
		case <-a.exited:
			a.t.Fatalf("Consul exited: %v\n%s", err, a.Log())
		case <-ctx.Done():
			a.t.Fatalf("Consul does not work after %s: %v\n%s", startTimeout, err, a.Log())
		case <-time.After(pollEvery):
		}
	}
}

// working first asks for the leader, which needs no token: a new server that is
// asked too early for more backs off for seconds.
func (a *Agent) working(ctx context.Context) error {
	var leader string
	if err := a.try(ctx, http.MethodGet, "/v1/status/leader", nil, &leader); err != nil {
		return err
	}
	if leader == "" {
		return errors.New("no leader yet")
	}
	return a.try(ctx, http.MethodGet, "/v1/agent/connect/ca/leaf/consultest", nil, nil)
}

// Log returns the last lines that the agent wrote.
func (a *Agent) Log() string {
	data, err := os.ReadFile(a.logFile())
	if err != nil {
		return err.Error()
	}
	const enough = 4096
	return string(data[max(0, len(data)-enough):])
}

// Call sends a request with the management token, and fails the test unless it is
// answered by 200. in and out are JSON, or nil.
func (a *Agent) Call(method, path string, in, out any) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := a.try(ctx, method, path, in, out); err != nil {
		a.t.Fatal(err)
	}
}

func (a *Agent) try(ctx context.Context, method, path string, in, out any) error {
	status, data, err := a.Raw(ctx, method, path, a.management, in)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%s %s: %d %s", method, path, status, bytes.TrimSpace(data))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}

// Raw sends a request with a token ("" for none) and returns what came back.
func (a *Agent) Raw(ctx context.Context, method, path, token string, in any) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var content io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return 0, nil, err
		}
		content = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+a.Address+path, content)
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		request.Header.Set("X-Consul-Token", token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, body, errors.Join(err, ctx.Err())
}
