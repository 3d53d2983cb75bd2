package consulconfig_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice/datacenters"
	"sluice/internal/binaries"
	"sluice/lab/consulconfig"
)

const (
	gossip     = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="
	agentToken = "11111111-2222-3333-4444-555555555555"
	management = "66666666-7777-8888-9999-aaaaaaaaaaaa"
)

func agent(server bool) consulconfig.Agent {
	return consulconfig.Agent{
		Node: "web-1", Datacenter: "dc1", PrimaryDatacenter: "dc1", Server: server, Servers: 1,
		Address: netip.MustParseAddr("127.0.0.1"), Loopback: netip.MustParseAddr("127.0.0.1"),
		Join: []netip.Addr{netip.MustParseAddr("198.18.1.2")}, DNSPort: 8600, DataDir: "/nonexistent/data",
		Gossip: gossip, AgentToken: agentToken, ManagementToken: management,
		CAFile: "/nonexistent/ca.pem", CertFile: "/nonexistent/cert.pem", KeyFile: "/nonexistent/key.pem",
	}
}

// config returns a configuration as Consul reads it.
func config(t *testing.T, a consulconfig.Agent) map[string]any {
	t.Helper()
	encoded, err := a.Config()
	if err != nil {
		t.Fatal(err)
	}
	var decoded map[string]any
	if err := json.Unmarshal(encoded, &decoded); err != nil {
		t.Fatal(err)
	}
	return decoded
}

// at returns what is below a path of keys.
func at(document any, path string) any {
	for _, key := range strings.Split(path, ".") {
		object, ok := document.(map[string]any)
		if !ok {
			return nil
		}
		document = object[key]
	}
	return document
}

func TestEveryAgentIsConfiguredAsACarefulOperatorWould(t *testing.T) {
	for _, server := range []bool{true, false} {
		document := config(t, agent(server))
		for path, want := range map[string]any{
			"acl.enabled":                             true,
			"acl.default_policy":                      "deny",
			"acl.tokens.agent":                        agentToken,
			"default_intention_policy":                "deny",
			"encrypt":                                 gossip,
			"encrypt_verify_incoming":                 true,
			"encrypt_verify_outgoing":                 true,
			"tls.defaults.verify_incoming":            true,
			"tls.defaults.verify_outgoing":            true,
			"tls.internal_rpc.verify_server_hostname": true,
			"disable_remote_exec":                     true,
			"enable_script_checks":                    false,
			"enable_local_script_checks":              false,
			"client_addr":                             "127.0.0.1",
			"ports.grpc":                              -1.0,
			"ports.grpc_tls":                          -1.0,
			"ports.https":                             -1.0,
			"performance.raft_multiplier":             1.0,
		} {
			if got := at(document, path); got != want {
				t.Errorf("server %t: %s is %v, want %v", server, path, got, want)
			}
		}
	}
}

// The management token can do everything, so nobody but a server has it.
func TestOnlyAServerHoldsTheManagementToken(t *testing.T) {
	if got := at(config(t, agent(true)), "acl.tokens.initial_management"); got != management {
		t.Errorf("a server's initial management token is %v", got)
	}
	encoded, err := agent(false).Config()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(encoded), management) {
		t.Error("a client's configuration holds the management token")
	}
}

func TestWithASocketNoPortOfTheHTTPAPIIsLeft(t *testing.T) {
	a := agent(false)
	a.HTTPSocket = "/run/agent.sock"
	document := config(t, a)
	if at(document, "addresses.http") != "unix:///run/agent.sock" || at(document, "unix_sockets.mode") != "0600" {
		t.Errorf("the socket is %v with mode %v", at(document, "addresses.http"), at(document, "unix_sockets.mode"))
	}
}

// Consul refuses keys that it does not know and values that it cannot use.
func TestConsulItselfTakesEveryConfiguration(t *testing.T) {
	program, err := binaries.Consul()
	if err != nil {
		if os.Getenv("SLUICE_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	socket := agent(false)
	socket.HTTPSocket = filepath.Join(t.TempDir(), "agent.sock")
	for name, a := range map[string]consulconfig.Agent{"server": agent(true), "client": agent(false), "client with a socket": socket} {
		dir := t.TempDir()
		a.DataDir = filepath.Join(dir, "data")
		encoded, err := a.Config()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "agent.json")
		if err := os.WriteFile(path, encoded, 0o600); err != nil {
			t.Fatal(err)
		}
		output, err := exec.CommandContext(t.Context(), program, "validate", path).CombinedOutput()
		if err != nil {
			t.Errorf("%s: consul validate: %v\n%s", name, err, output)
		}
	}
}

func tokens(t *testing.T) map[string]consulconfig.Token {
	t.Helper()
	topology, err := datacenters.Load("../../datacenters/dc1.hcl")
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]consulconfig.Token{}
	for _, token := range consulconfig.Tokens(topology.Datacenters[0]) {
		if _, twice := byName[token.Name]; twice {
			t.Errorf("two tokens are called %s", token.Name)
		}
		byName[token.Name] = token
	}
	return byName
}

func TestEveryAgentAndEveryProcessHasATokenOfItsOwn(t *testing.T) {
	byName := tokens(t)
	agents := 0
	for _, token := range byName {
		if token.Rules == "" {
			t.Errorf("%s has no rules", token.Name)
		}
		if token.NodeIdentity != "" {
			agents++
			if want := "node_prefix \"\" { policy = \"read\" }\n"; token.Rules != want {
				t.Errorf("%s may more than see nodes: %s", token.Name, token.Rules)
			}
		}
	}
	if agents != 7 || len(byName) != 7+6 {
		t.Errorf("%d tokens, %d of them for agents; want 13 and 7", len(byName), agents)
	}
}

// What a token may write is what a stolen one can pretend to be.
func TestATokenWritesNothingButWhatItsOwnerServes(t *testing.T) {
	byName := tokens(t)
	for name, want := range map[string][]string{
		"web-on-web-1":         {`service "web"`},
		"gateway-on-gateway-1": {`service "gateway"`},
		"mongo-on-mongo-1":     {`service "mongo-primary"`, `service "mongo-secondary"`, `service "mongo-repl"`, `key_prefix "sluice/mongo/consuldemo/"`, `session "mongo-1"`},
		"mongo-on-mongo-2":     {`service "mongo-primary"`, `service "mongo-secondary"`, `service "mongo-repl"`},
	} {
		token, ok := byName[name]
		if !ok {
			t.Errorf("no token %s", name)
			continue
		}
		var writes []string
		for line := range strings.Lines(token.Rules) {
			if resource, _, ok := strings.Cut(strings.TrimSpace(line), " {"); ok && strings.Contains(line, `"write"`) {
				writes = append(writes, resource)
			}
		}
		if strings.Join(writes, ", ") != strings.Join(want, ", ") {
			t.Errorf("%s may write %v, want %v", name, writes, want)
		}
		if !strings.Contains(token.Rules, `node_prefix "" { policy = "read" }`) {
			t.Errorf("%s may not read nodes, so that Consul hides every instance from it", name)
		}
	}
	for name, rules := range map[string]string{"ui": consulconfig.UIRules, "operator": consulconfig.OperatorRules} {
		if strings.Contains(rules, "acl") || strings.Contains(rules, `service_prefix "" { policy = "write"`) {
			t.Errorf("the token %s may make tokens or pretend to be a service:\n%s", name, rules)
		}
	}
	if strings.Contains(consulconfig.UIRules, "write") {
		t.Errorf("who looks at pages may write:\n%s", consulconfig.UIRules)
	}
}
