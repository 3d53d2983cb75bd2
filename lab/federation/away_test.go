//go:build dc2

package federation_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"sluice/internal/labtest"
)

// consul runs a command of Consul's, or another program, on a node of dc2, as somebody
// who may do everything.
func (t *trial) consul(node string, command ...string) (string, bool) {
	args := append([]string{"exec", node, "--", "env", "CONSUL_HTTP_TOKEN_FILE=" + t.lab.State + "/secrets/management.token"}, command...)
	result := t.lab.Run(args...)
	return strings.TrimSpace(result.Stdout + result.Stderr), result.Code == 0
}

// api asks the agent of a node of dc2.
func (t *trial) api(node, path string, more ...string) (string, bool) {
	script := `curl -s -m 15 -f -H "X-Consul-Token: $(cat "$CONSUL_HTTP_TOKEN_FILE")" "$@"`
	return t.consul(node, append([]string{"sh", "-c", script, "sh", "http://127.0.0.1:8500" + path}, more...)...)
}

// act is one thing that people do in dc2, and whether it works while dc1 is away.
type act struct {
	what  string
	works bool
	do    func() (string, bool)
}

// acts are the lines of what works without the primary datacenter. A leaf is asked for a
// name that nobody has asked for before, so that no cache answers.
func (t *trial) acts(round string) []act {
	token := func() (string, bool) {
		return t.consul("consul-2", "consul", "acl", "token", "create", "-policy-name", "global-management")
	}
	return []act{
		{"discovery in dc2", true, func() (string, bool) { return t.consul("web-3", "consul", "catalog", "services") }},
		{"writing keys in dc2", true, func() (string, bool) { return t.consul("web-3", "consul", "kv", "put", "trial/"+round, "x") }},
		{"an authorization by the agent in dc2", true, func() (string, bool) {
			return t.api("web-3", "/v1/agent/connect/authorize", "-X", "POST", "-d", `{"Target":"web","ClientCertURI":"spiffe://`+t.trustDomain()+`/ns/default/dc/dc2/svc/gateway","ClientCertSerial":"01"}`)
		}},
		{"reading tokens in dc2", true, func() (string, bool) { return t.consul("consul-2", "consul", "acl", "token", "list") }},
		{"writing an intention", false, func() (string, bool) {
			return t.consul("consul-2", "consul", "intention", "create", "-deny", "nobody", "nothing")
		}},
		{"making a token", false, token},
		{"signing a new leaf in dc2", true, func() (string, bool) { return t.api("consul-2", "/v1/agent/connect/ca/leaf/trial-"+round) }},
	}
}

func (t *trial) trustDomain() string {
	t.Helper()
	for _, n := range t.lab.Status().Nodes {
		for _, p := range n.Processes {
			if p.Mesh != nil && len(p.Mesh.Identities) > 0 {
				return p.Mesh.Identities[0].ID.TrustDomain()
			}
		}
	}
	t.Fatal("no process has an identity")
	return ""
}

// primaryAway measures what works in dc2 while dc1 is cut off, before and after the
// Consul server of dc2 was restarted. What is logged is the table of
// docs/multi-datacenter.md.
func primaryAway(t *trial) {
	t.lab.Must("fault", "cut", "dc1")
	<-time.After(5 * time.Second) // until the WAN's gossip has given dc1 up
	t.perform("before", "dc1 is away", nil)
	t.breakGlass()
	t.lab.Must("fault", "restart", "consul-2/consul")
	labtest.Eventually(t, 30*time.Second, "dc2 has a leader again", func() error {
		if text, ok := t.consul("web-3", "consul", "catalog", "nodes"); !ok {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	t.perform("after", "and its own server was restarted", map[string]bool{"signing a new leaf in dc2": false})
	if status, p, err := t.page(gateway2); err != nil || p.Instance != "web-web-3" {
		t.Errorf("web in dc2: status %d, %+v, %v; want it to go on with the leaf that it has", status, p, err)
	}
	t.lab.Must("fault", "heal", "dc1")
	began := time.Now()
	labtest.Eventually(t, 5*time.Minute, "dc2 signs leaves again", func() error {
		if text, ok := t.api("consul-2", "/v1/agent/connect/ca/leaf/trial-healed"); !ok {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	t.Logf("after heal: dc2 signs leaves again after %v", time.Since(began).Round(100*time.Millisecond))
	labtest.Eventually(t, 5*time.Minute, "an intention of dc1 holds in dc2", func() error {
		if result := t.lab.Run("intentions", "deny", "web", "mongo-primary"); result.Code != 0 {
			return fmt.Errorf("%s", result)
		}
		return nil
	})
	t.Logf("after heal: an intention of dc1 holds in dc2 after %v", time.Since(began).Round(100*time.Millisecond))
	t.lab.Must("intentions", "allow", "web", "mongo-primary")
}

// perform does every act and compares what became of it with what is expected.
func (t *trial) perform(round, when string, otherwise map[string]bool) {
	t.Helper()
	for _, act := range t.acts(round) {
		want, other := otherwise[act.what]
		if !other {
			want = act.works
		}
		began := time.Now()
		text, works := act.do()
		verdict := "works"
		if !works {
			verdict = "fails: " + lastLine(text)
		}
		t.Logf("%-34s %-40s %6.1f s  %s", when, act.what, time.Since(began).Seconds(), verdict)
		if works != want {
			t.Errorf("%s, %s: works %t, want %t", when, act.what, works, want)
		}
	}
}

func lastLine(text string) string {
	lines := strings.Split(text, "\n")
	return lines[len(lines)-1]
}

// breakGlassWithin is how long a denial of the datacenter itself may take to hold,
// connections that are open included.
const breakGlassWithin = 250 * time.Millisecond

// breakGlass denies an edge within dc2 while intentions cannot be written, and takes that
// back.
func (t *trial) breakGlass() {
	stock := t.lab.Run("intentions", "deny", "web", "mongo-secondary")
	if stock.Code == 0 {
		t.Errorf("dc2 is said to enforce what it cannot have heard: %s", stock)
	}
	t.lab.Must("intentions", "allow", "web", "mongo-secondary")
	if before := t.open("web-3", "mongo-secondary"); before == 0 {
		t.Error("web-3 has no connection to cut")
	}
	result := t.lab.Must("intentions", "deny", "--local", "dc2", "web", "mongo-secondary", "--reason", "a rehearsal", "-o", "json")
	var denied struct {
		Seconds  float64  `json:"seconds"`
		Enforced []string `json:"enforced_by"`
	}
	if err := json.Unmarshal([]byte(result.Stdout), &denied); err != nil {
		t.Fatal(err)
	}
	t.Logf("break-glass: enforced by %v after %.0f ms", denied.Enforced, 1000*denied.Seconds)
	if took := time.Duration(denied.Seconds * float64(time.Second)); took > breakGlassWithin {
		t.Errorf("enforced after %v, want at most %v", took, breakGlassWithin)
	}
	if after := t.open("web-3", "mongo-secondary"); after > 0 {
		t.Errorf("%d connections are still open", after)
	}
	if elsewhere := t.open("web-1", "mongo-secondary"); elsewhere == 0 {
		t.Error("dc1 enforces it too")
	}
	for _, command := range [][]string{{"status"}, {"intentions", "list"}, {"intentions", "why", "web", "mongo-secondary"}} {
		if text := t.lab.Run(command...).Stdout; !strings.Contains(text, "a rehearsal") {
			t.Errorf("%v does not tell it:\n%s", command, text)
		}
	}
	t.lab.Must("intentions", "lift", "--local", "dc2", "web", "mongo-secondary")
	labtest.Eventually(t, 20*time.Second, "web-3 reads again", func() error {
		if t.open("web-3", "mongo-secondary") == 0 {
			return errNotYet
		}
		return nil
	})
}

// open is how many connections a node's web has open to a service.
func (t *trial) open(node, service string) int {
	t.Helper()
	count := 0
	for _, n := range t.lab.Status().Nodes {
		for _, p := range n.Processes {
			if n.Name != node || p.Name != "web" || p.Mesh == nil {
				continue
			}
			for _, c := range p.Mesh.Connections {
				if !c.Inbound && c.Destination.Service() == service {
					count++
				}
			}
		}
	}
	return count
}
