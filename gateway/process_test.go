package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/consul"
	"sluice/internal/consultest"
	"sluice/internal/service"
	"sluice/mesh"
)

// processVariable makes this test's binary the gateway.
const processVariable = "SLUICE_TEST_GATEWAY"

func TestMain(m *testing.M) {
	if os.Getenv(processVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is a gateway process.
type process struct {
	command *exec.Cmd
	output  bytes.Buffer
	exited  chan struct{}
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{exited: make(chan struct{})}
	p.command = exec.Command(os.Args[0], args...)
	p.command.Env = append(os.Environ(), processVariable+"=1")
	p.command.Stdout, p.command.Stderr = &p.output, &p.output
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.command.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.command.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("the gateway said:\n%s", p.output.String())
		}
	})
	return p
}

// wait returns the exit code.
func (p *process) wait(t *testing.T, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(limit):
		t.Fatalf("no exit within %v", limit)
	}
	return p.command.ProcessState.ExitCode()
}

// startWeb runs a Connect-native service "web" in this process, registered in a
// real Consul.
func startWeb(t *testing.T, agent *consultest.Agent) {
	t.Helper()
	client, err := consul.Open(consul.Config{Address: agent.Address, TokenFile: agent.ServiceFile("web"), Datacenter: "dc1"})
	if err != nil {
		t.Fatal(err)
	}
	identity, policy, registrar := client.Identity("web"), client.DestinationPolicy("web"), client.Registrar()
	listener, err := mesh.Listen(net.JoinHostPort(agent.Host, "8000"), mesh.ListenConfig{
		Credentials: identity, Authorizer: mesh.NewAuthorizer(mesh.AuthorizerConfig{Service: "web", Policy: policy}), Table: mesh.NewTable(time.Now),
		DrainTimeout: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ConnContext: mesh.ConnContext, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello ", mesh.ConnFromContext(r.Context()).Peer())
	})}
	registrar.Set(consul.Registration{
		ID: "web-1", Name: "web", Address: agent.Host, Port: 8000, Tags: []string{"urlprefix-/web", "urlprefix-broken"}, Native: true,
		Check: consul.Check{TTL: 30 * time.Second},
	})
	registrar.Pass("web-1", "in a test")
	var group service.Group
	group.Add("identity", identity.Run)
	group.Add("policy", policy.Run)
	group.Add("listener", listener.Run)
	group.Add("server", func(ctx context.Context) error { return service.Serve(ctx, server, listener, 100*time.Millisecond) })
	group.Add("registrar", registrar.Run)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- group.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("web: %v", err)
		}
		client.Close()
	})
}

func intend(agent *consultest.Agent, action string) {
	source := map[string]string{"Name": "gateway", "Action": action}
	agent.Call(http.MethodPut, "/v1/config", map[string]any{"Kind": "service-intentions", "Name": "web", "Sources": []any{source}}, nil)
}

func get(url string) (status int, body string, err error) {
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	response, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

func answers(url string, want int, texts ...string) func() error {
	return func() error {
		status, body, err := get(url)
		if err != nil {
			return err
		}
		for _, text := range texts {
			if !strings.Contains(body, text) {
				return fmt.Errorf("%d without %q: %s", status, text, body)
			}
		}
		if status != want {
			return fmt.Errorf("%d: %s", status, body)
		}
		return nil
	}
}

func TestGatewayProcessAgainstARealConsul(t *testing.T) {
	agent := consultest.Start(t, consultest.Config{})
	intend(agent, "allow")
	startWeb(t, agent)
	profile := filepath.Join(t.TempDir(), "cpu.pprof")
	gateway := startProcess(t, "-cpu-profile", profile, "-node", agent.Node, "-address", agent.Host, "-loopback", agent.Host,
		"-consul", agent.Address, "-explain-errors", "-token-file", agent.ServiceFile("gateway"))
	url := "http://" + net.JoinHostPort(agent.Host, "9999") + "/web"
	admin := "http://" + net.JoinHostPort(agent.Host, "9998")

	consultest.Await(t, 20*time.Second, "the gateway is ready", answers(admin+"/readyz", 200))
	if err := answers(url, 200, "hello spiffe://", "/dc/dc1/svc/gateway")(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		intend(agent, "deny")
		took := consultest.Await(t, 2*time.Second, "the deny bites",
			answers(url, 403, "denied by intention gateway -> web", "sluice intentions allow gateway web"))
		intend(agent, "allow")
		back := consultest.Await(t, 2*time.Second, "the allow works", answers(url, 200))
		t.Logf("from the write: 403 after %v, 200 after %v", took.Round(time.Millisecond), back.Round(time.Millisecond))
	}
	for path, text := range map[string]string{
		"/":        "urlprefix-broken",
		"/routes":  `"route": "/web"`,
		"/mesh":    `"side": "source"`,
		"/metrics": `sluice_gateway_requests_total{code="403",service="web"}`,
		"/healthz": "ok",
	} {
		if err := answers(admin+path, 200, text)(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	consultest.Await(t, 5*time.Second, "the gateway is in the catalog", registered(agent, 1))

	started := time.Now()
	_ = gateway.command.Process.Signal(syscall.SIGTERM)
	if code := gateway.wait(t, 10*time.Second); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	// runtime/pprof writes the whole profile at its end, compressed.
	if content, err := os.ReadFile(profile); err != nil || !bytes.HasPrefix(content, []byte{0x1f, 0x8b}) {
		t.Errorf("the profile has %d bytes, %v", len(content), err)
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	consultest.Await(t, 2*time.Second, "the gateway is out of the catalog", registered(agent, 0))
}

func registered(agent *consultest.Agent, want int) func() error {
	return func() error {
		var found []struct{}
		agent.Call(http.MethodGet, "/v1/health/connect/gateway?passing", nil, &found)
		if len(found) != want {
			return fmt.Errorf("%d passing instances of gateway", len(found))
		}
		return nil
	}
}

func TestGatewaySaysWhatIsWrongAndExits(t *testing.T) {
	const loopback = "127.91.42.7" // where no lab of this machine has its ports
	busy, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, port, _ := net.SplitHostPort(busy.Addr().String())
	place := []string{"-node", "gateway-1", "-address", "127.0.0.1", "-loopback", loopback}
	tests := []struct {
		name string
		args []string
		code int
		text string
	}{
		{"no node", nil, 2, "-node is missing"},
		{"empty prefix", append([]string{"-prefix", ""}, place...), 2, "every tag would be a route"},
		{"no token file", append([]string{"-token-file", "/nonexistent"}, place...), 1, "/nonexistent"},
		{"error pages with a fault", append([]string{"-error-pages", themeDir(t, "{{.Secret}}")}, place...), 1, "-error-pages: error pages in "},
		{"a profile in no folder", append([]string{"-cpu-profile", "/nonexistent/p"}, place...), 1, "-cpu-profile: open /nonexistent/p"},
		{"busy port", append([]string{"-admin-port", port}, place...), 1, "address already in use"},
		{"version", []string{"-version"}, 0, "gateway "},
		{"version as a command", []string{"version"}, 0, "gateway "},
		{"version as Fabio has it", []string{"-v"}, 0, "gateway "},
		{"help", []string{"-h"}, 0, "-admin-port"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := startProcess(t, test.args...)
			if code := p.wait(t, 10*time.Second); code != test.code || !strings.Contains(p.output.String(), test.text) {
				t.Errorf("exit %d, %q; want %d with %q", code, p.output.String(), test.code, test.text)
			}
		})
	}
}
