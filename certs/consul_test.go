package certs

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/internal/binaries"
)

// TestRealAgentsTrustEachOtherByTheseCertificatesAndNobodyElse starts a server
// and a client agent with every TLS check on. The client can ask the server; an
// agent of another authority cannot, nor does an agent ask a server of another
// authority.
func TestRealAgentsTrustEachOtherByTheseCertificatesAndNobodyElse(t *testing.T) {
	binary, err := binaries.Consul()
	if err != nil {
		if os.Getenv("SLUICE_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	now := time.Now()
	authority, stranger := newAuthority(t, now), newAuthority(t, now)
	network := fmt.Sprintf("127.%d.%d.", 200+rand.IntN(50), rand.IntN(256))
	server := agent{node: "consul-1", address: network + "2", server: true, authority: authority, trusts: authority}
	client := agent{node: "web-1", address: network + "11", join: server.address, authority: authority, trusts: authority}
	foreign := agent{node: "foreign", address: network + "12", join: server.address, authority: stranger, trusts: authority}
	wary := agent{node: "wary", address: network + "13", join: server.address, authority: authority, trusts: stranger}
	for _, a := range []agent{server, client, foreign, wary} {
		a.start(t, binary)
	}
	for _, a := range []agent{foreign, wary} {
		waitFor(t, a, a.node+" has joined by gossip", func() bool {
			body, err := a.get("/v1/agent/members")
			return err == nil && strings.Contains(body, server.node)
		})
	}
	waitFor(t, client, "the server answers the client", func() bool {
		body, err := client.get("/v1/catalog/nodes")
		return err == nil && strings.Contains(body, client.node)
	})
	for _, a := range []agent{foreign, wary} {
		if body, err := a.get("/v1/catalog/nodes"); err == nil {
			t.Errorf("%s can ask the server: %s", a.node, body)
		}
	}
}

// agent is one Consul agent on a loopback address of its own.
type agent struct {
	node, address string
	server        bool
	join          string
	// authority signs the agent's certificate, trusts is whom it believes.
	authority, trusts *Authority
}

func (a agent) start(t *testing.T, binary string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), a.node)
	subject := Subject{Node: a.node, Datacenter: "dc1", Addresses: []netip.Addr{netip.MustParseAddr(a.address)}}
	issue := a.authority.IssueClient
	if a.server {
		issue = a.authority.IssueServer
	}
	pair, err := issue(subject, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := pair.Write(dir, a.node); err != nil {
		t.Fatal(err)
	}
	if err := a.trusts.WriteCertificate(dir); err != nil {
		t.Fatal(err)
	}
	config := map[string]any{
		"node_name": a.node, "datacenter": "dc1", "server": a.server, "data_dir": filepath.Join(dir, "data"),
		"bind_addr": a.address, "client_addr": a.address, "disable_host_node_id": true, "disable_update_check": true,
		"ports":       map[string]int{"dns": -1, "grpc": -1, "grpc_tls": -1},
		"performance": map[string]any{"raft_multiplier": 1, "rpc_hold_timeout": "1s"},
		"tls": map[string]any{
			"defaults": map[string]any{
				"ca_file": CertificateFile(dir, AuthorityName), "cert_file": CertificateFile(dir, a.node), "key_file": KeyFile(dir, a.node),
				"verify_incoming": true, "verify_outgoing": true,
			},
			"internal_rpc": map[string]any{"verify_server_hostname": true},
		},
	}
	if a.server {
		config["bootstrap_expect"] = 1
	} else {
		config["retry_join"], config["retry_interval"] = []string{a.join}, "1s"
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "agent.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "agent", "-config-file", path)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s:\n%s", a.node, text[max(0, len(text)-4000):])
		}
	})
}

func (a agent) get(path string) (string, error) {
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get("http://" + a.address + ":8500" + path)
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

// waitFor waits until condition holds, and fails the test if it does not within
// 15 s.
func waitFor(t *testing.T, a agent, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(15 * time.Second)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within 15 s: %s", a.node, what)
		}
	}
}
