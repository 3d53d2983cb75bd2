package intentions

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/internal/binaries"
)

// TestConsulTakesTheLabsFilesAndDecidesAsWeDo writes files with "consul config
// write" to a real agent and compares every edge.
func TestConsulTakesTheLabsFilesAndDecidesAsWeDo(t *testing.T) {
	consul := startConsul(t)
	entries, err := Load(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if out, err := consul.write(entry.Position.File); err != nil {
			t.Fatalf("consul config write %s: %v\n%s", entry.Position.File, err, out)
		}
	}
	services := append(labServices(), "stranger")
	consul.compare(t, NewSet(Flatten(entries), Deny), services)

	dir := t.TempDir()
	write(t, dir, "any.hcl", `Kind = "service-intentions" Name = "*" Sources = [
		{ Name = "web", Action = "allow" }, { Name = "*", Action = "deny" }, { Name = "stranger", Action = "allow" }]`)
	write(t, dir, "web.hcl", `kind = "service-intentions" name = "web" sources = [
		{ name = "stranger", action = "deny", type = "consul" }, { name = "*", action = "allow" }]`)
	more, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range more {
		if out, err := consul.write(entry.Position.File); err != nil {
			t.Fatalf("consul config write %s: %v\n%s", entry.Position.File, err, out)
		}
	}
	all := byDestination(append(entries, more...))
	rules := []Rule{}
	for _, entry := range all {
		rules = append(rules, entry.Rules...)
	}
	consul.compare(t, NewSet(rules, Deny), services)
}

// TestWhatConsulRefusesWeRefuse holds us to be no laxer than Consul.
func TestWhatConsulRefusesWeRefuse(t *testing.T) {
	consul := startConsul(t)
	dir := t.TempDir()
	for i, text := range []string{
		`Kind = "service-intentions" Name = "web"`,
		`Kind = "service-intentions" Name = "web" Sources = []`,
		`Kind = "service-intentions" Name = "web*" Sources = [{ Name = "a", Action = "allow" }]`,
		`Kind = "service-intentions" Name = "web" Sources = [{ Name = "a*", Action = "allow" }]`,
		`Kind = "service-intentions" Name = "web" Sources = [{ Name = "a" }]`,
		`Kind = "service-intentions" Name = "web" Sources = [{ Name = "a", Action = "permit" }]`,
		`Kind = "service-intentions" Name = "web" Sources = [{ Name = "a", Action = "allow", Colour = "red" }]`,
		`Kind = "service-intentions" Name = "web" Sources = [{ Name = "a", Action = "allow", Description = "` + strings.Repeat("x", 513) + `" }]`,
		`Kind = "service-intentions" Name = "web" Sources = [{ Name = "a", Action = "allow" }, { Name = "a", Action = "deny" }]`,
	} {
		name := fmt.Sprintf("%d.hcl", i)
		write(t, dir, name, text)
		if out, err := consul.write(filepath.Join(dir, name)); err == nil {
			t.Errorf("Consul takes %s:\n%s", text, out)
		}
		entry, err := Parse(name, []byte(text))
		if err == nil && Validate([]Entry{entry}, nil).Err() == nil {
			t.Errorf("we take what Consul refuses: %s", text)
		}
	}
}

// realConsul is a Consul agent of its own, on a loopback address of its own.
type realConsul struct {
	binary, address string
}

// startConsul starts an agent that lives as long as the test.
func startConsul(t *testing.T) realConsul {
	t.Helper()
	binary, err := binaries.Consul()
	if err != nil {
		if os.Getenv("SLUICE_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	ip := fmt.Sprintf("127.%d.%d.%d", 100+rand.IntN(100), rand.IntN(256), 1+rand.IntN(254))
	log, err := os.Create(filepath.Join(t.TempDir(), "consul.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "agent", "-dev", "-bind", ip, "-client", ip, "-dns-port", "-1", "-grpc-port", "-1", "-grpc-tls-port", "-1",
		"-log-level", "warn", "-hcl", `default_intention_policy = "deny"`, "-hcl", `performance { raft_multiplier = 1 }`)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		log.Close()
	})
	consul := realConsul{binary: binary, address: ip + ":8500"}
	consul.waitForLeader(t, log.Name())
	return consul
}

func (c realConsul) waitForLeader(t *testing.T, log string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		// Connect is ready when the certificate authority has a root.
		if body, err := c.get("/v1/connect/ca/roots"); err == nil && strings.Contains(body, "BEGIN CERTIFICATE") {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			text, _ := os.ReadFile(log)
			t.Fatalf("Consul has no leader after 30 s:\n%s", text)
		}
	}
}

func (c realConsul) get(path string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get("http://" + c.address + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), err
}

func (c realConsul) write(path string) (string, error) {
	out, err := exec.Command(c.binary, "config", "write", "-http-addr", "http://"+c.address, path).CombinedOutput()
	return string(out), err
}

// compare asks the agent for a verdict on every edge between services, by the
// endpoint that native services use. (The endpoint intentions/check does not
// know default_intention_policy.) The agent caches intentions by token and does not
// keep what it has cached up to date, so each question comes with a new one.
func (c realConsul) compare(t *testing.T, set Set, services []string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for _, source := range services {
		for _, destination := range services {
			want := set.Decide(source, destination)
			for {
				allowed, reason := c.authorize(t, source, destination)
				if allowed == want.Allowed {
					break
				}
				if time.Now().After(deadline) {
					t.Errorf("%s -> %s: Consul says %v (%s), we say %s", source, destination, allowed, reason, want)
					break
				}
			}
		}
	}
}

func (c realConsul) authorize(t *testing.T, source, destination string) (allowed bool, reason string) {
	t.Helper()
	request := fmt.Sprintf(`{"Target": %q, "ClientCertURI": "spiffe://%s.consul/ns/default/dc/dc1/svc/%s", "ClientCertSerial": "01"}`,
		destination, "11111111-2222-3333-4444-555555555555", source)
	client := http.Client{Timeout: 5 * time.Second}
	question, err := http.NewRequest(http.MethodPost, "http://"+c.address+"/v1/agent/connect/authorize", strings.NewReader(request))
	if err != nil {
		t.Fatal(err)
	}
	question.Header.Set("X-Consul-Token", fmt.Sprintf("%032x", rand.Uint64()))
	response, err := client.Do(question)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Authorized bool
		Reason     string
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer.Authorized, answer.Reason
}
