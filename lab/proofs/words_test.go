package proofs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"sluice/intentions"
	"sluice/internal/labtest"
	"sluice/lab"
)

// page asks for the page and measures.
func (p *proof) page(accept string) (status int, body string, took time.Duration) {
	p.Helper()
	began := monotonic()
	status, body, err := p.lab.Page(accept)
	if err != nil {
		p.Fatal(err)
	}
	return status, body, monotonic() - began
}

// pageSays holds one request to its status and its words, and to being quick.
func (p *proof) pageSays(accept string, status int, words ...string) {
	p.Helper()
	got, body, took := p.page(accept)
	if got != status {
		p.Errorf("%s: status %d, want %d: %s", accept, got, status, excerpt(body))
	}
	text := strings.NewReplacer("&gt;", ">", `\u003e`, ">").Replace(body)
	for _, word := range words {
		if !strings.Contains(text, word) {
			p.Errorf("%s: %q is not on the page: %s", accept, word, excerpt(body))
		}
	}
	for _, trace := range []string{"goroutine ", "panic", ".go:"} {
		if strings.Contains(body, trace) {
			p.Errorf("%s: %q is on the page: %s", accept, trace, excerpt(body))
		}
	}
	if took > 2*time.Second {
		p.Errorf("%s: it took %s", accept, took)
	}
	p.Logf("%-9s %d after %4.0f ms %q", accept, got, took.Seconds()*1000, words)
}

func excerpt(body string) string { return body[:min(len(body), 1500)] }

// accepts are a browser and a program.
func accepts() []string { return []string{"text/html", "application/json"} }

// togglesInWords denies and allows edges by the command line: each time the very
// next request meets it.
func togglesInWords(p *proof) {
	for _, accept := range accepts() {
		p.pageSays(accept, http.StatusOK)
		p.lab.Must("intentions", "deny", "web", "mongo-primary")
		p.pageSays(accept, http.StatusServiceUnavailable, "denied by intention web -> mongo-primary")
		p.pageSays(accept, http.StatusServiceUnavailable, "denied by intention web -> mongo-primary")
		p.lab.Must("intentions", "allow", "web", "mongo-primary")
		p.pageSays(accept, http.StatusOK)
		p.lab.Must("intentions", "deny", "gateway", "web")
		p.pageSays(accept, http.StatusForbidden, "denied by intention gateway -> web", "source", "destination", "gateway -> web, deny (precedence 9)")
		p.lab.Must("intentions", "allow", "gateway", "web")
		p.pageSays(accept, http.StatusOK)
	}
}

func planAndApply(p *proof) {
	if result := p.lab.Run("intentions", "plan"); result.Code != 0 || !strings.Contains(result.Stdout, "No changes") {
		p.Errorf("plan without drift: %s", result)
	}
	p.lab.Must("intentions", "deny", "web", "mongo-primary")
	if err := p.consul.DeleteIntention(p.bounded(5*time.Second), "web", "mongo-secondary"); err != nil {
		p.Fatal(err)
	}
	p.set("gateway", "mongo-repl", intentions.Allow)
	result := p.lab.Run("intentions", "plan")
	if result.Code != 1 {
		p.Errorf("plan with drift: %s", result)
	}
	for _, line := range []string{"~ web -> mongo-primary  deny => allow", "+ web -> mongo-secondary  allow", "- gateway -> mongo-repl  allow", "Plan: 1 to add, 1 to change, 1 to delete."} {
		if !strings.Contains(result.Stdout, line) {
			p.Errorf("plan does not say %q:\n%s", line, result.Stdout)
		}
	}
	if dry := p.lab.Must("intentions", "apply", "--dry-run"); !strings.Contains(dry.Stdout, "Plan: 1 to add") {
		p.Errorf("apply --dry-run: %s", dry)
	}
	if result := p.lab.Run("intentions", "plan"); result.Code != 1 {
		p.Errorf("a dry run changed something: %s", result)
	}
	p.lab.Must("intentions", "apply")
	p.pageSays("text/html", http.StatusOK)
	if result := p.lab.Run("intentions", "plan"); result.Code != 0 {
		p.Errorf("plan after apply: %s", result)
	}
}

// applyComparesAndSets puts a proxy between `apply` and Consul that lets somebody
// else write in the moment between the plan and the write.
func applyComparesAndSets(p *proof) {
	p.lab.Must("intentions", "deny", "web", "mongo-primary")
	var writes atomic.Int32
	backend, err := url.Parse(p.lab.URL(8500, ""))
	if err != nil {
		p.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(backend)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/v1/config") {
			writes.Add(1)
			err := p.consul.SetIntention(r.Context(), intentions.Rule{Source: "gateway", Destination: "mongo-primary", Action: intentions.Deny, Description: "somebody else's"})
			if err != nil {
				p.Error(err)
			}
		}
		forward.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	state := p.stateWithConsul(strings.TrimPrefix(proxy.URL, "http://"))
	result := p.lab.Run("--state", state, "intentions", "apply")
	if writes.Load() == 0 {
		p.Fatalf("nothing was written: %s", result)
	}
	if result.Code != 2 || !strings.Contains(result.Stderr, "changed in Consul since it was read") || !strings.Contains(result.Stderr, "nothing of it was overwritten") {
		p.Errorf("apply: %s", result)
	}
	entry, _, err := p.consul.GetEntry(p.bounded(5*time.Second), "mongo-primary")
	if err != nil {
		p.Fatal(err)
	}
	set := intentions.NewSet(entry.Rules, intentions.Deny)
	if mine := set.Decide("gateway", "mongo-primary"); mine.Rule == nil || mine.Rule.Description != "somebody else's" {
		p.Errorf("the concurrent change is gone: %v", entry.Rules)
	}
	if set.Decide("web", "mongo-primary").Allowed {
		p.Errorf("apply wrote after all: %v", entry.Rules)
	}
	p.lab.Must("intentions", "apply")
	if result := p.lab.Run("intentions", "plan"); result.Code != 0 {
		p.Errorf("plan after a second apply: %s", result)
	}
}

// stateWithConsul is the lab's state folder as it is, but for the address of
// Consul.
func (p *proof) stateWithConsul(address string) string {
	p.Helper()
	content, err := os.ReadFile(filepath.Join(p.lab.State, "lab.json"))
	if err != nil {
		p.Fatal(err)
	}
	var options lab.Options
	if err := json.Unmarshal(content, &options); err != nil {
		p.Fatal(err)
	}
	for i := range options.Hosts {
		if options.Hosts[i].Name == "consul" {
			options.Hosts[i].Address = address
		}
	}
	if content, err = json.Marshal(options); err != nil {
		p.Fatal(err)
	}
	dir := p.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "lab.json"), content, 0o600); err != nil {
		p.Fatal(err)
	}
	for _, name := range []string{"secrets", "control.sock"} {
		if err := os.Symlink(filepath.Join(p.lab.State, name), filepath.Join(dir, name)); err != nil {
			p.Fatal(err)
		}
	}
	return dir
}

func checkAndWhy(p *proof) {
	p.lab.Must("intentions", "deny", "web", "mongo-secondary")
	for _, c := range []struct {
		arguments []string
		code      int
		words     []string
	}{
		{[]string{"check", "web", "mongo-primary"}, 0, []string{"allowed by intention web -> mongo-primary"}},
		{[]string{"check", "web", "mongo-secondary"}, 1, []string{"denied by intention web -> mongo-secondary"}},
		{[]string{"check", "gateway", "mongo-primary"}, 1, []string{"denied by the default policy: no intention matches gateway -> mongo-primary"}},
		{[]string{"check", "web", "mongo-primery"}, 2, nil},
		{[]string{"check", "web"}, 2, nil},
		{[]string{"why", "web", "mongo-primary"}, 0, []string{
			"allowed by intention web -> mongo-primary", "precedence 9", "mongo-primary.hcl:", "else the default policy: deny",
			"Consul itself answers: allowed; we agree",
		}},
		{[]string{"why", "web", "mongo-secondary"}, 1, []string{
			"denied by intention web -> mongo-secondary", "the files say otherwise", "Consul itself answers: denied; we agree",
		}},
		{[]string{"why", "gateway", "mongo-primary"}, 1, []string{
			"no intention matches, so the default policy decides: deny", "Consul itself answers: denied; we agree",
		}},
	} {
		result := p.lab.Run(append([]string{"intentions"}, c.arguments...)...)
		if result.Code != c.code {
			p.Errorf("%s: %s", c.arguments, result)
		}
		for _, word := range c.words {
			if !strings.Contains(result.Stdout, word) {
				p.Errorf("%s does not say %q:\n%s", c.arguments, word, result)
			}
		}
	}
	var verdict struct {
		Decision intentions.Decision `json:"decision"`
		Agree    bool                `json:"agree"`
	}
	result := p.lab.Run("intentions", "why", "web", "mongo-secondary", "-o", "json")
	if err := json.Unmarshal([]byte(result.Stdout), &verdict); err != nil || result.Code != 1 || verdict.Decision.Allowed || !verdict.Agree {
		p.Errorf("why -o json: %v: %s", err, result)
	}
}

// httpPermissionsDeny writes what only `consul config write` can write.
func httpPermissionsDeny(p *proof) {
	entry := `{"Kind": "service-intentions", "Name": "mongo-secondary", "Sources": [
	  {"Name": "web", "Permissions": [{"Action": "allow", "HTTP": {"PathPrefix": "/"}}]}]}`
	// Consul takes permissions only for a service that speaks HTTP.
	for _, content := range []string{`{"Kind": "service-defaults", "Name": "mongo-secondary", "Protocol": "http"}`, entry} {
		if err := p.writeConfig(content); err != nil {
			p.Fatal(err)
		}
	}
	p.Cleanup(func() {
		p.lab.Must("intentions", "apply")
		if err := p.consulRequest(http.MethodDelete, "/v1/config/service-defaults/mongo-secondary", ""); err != nil {
			p.Error(err)
		}
	})
	const words = "it carries HTTP permissions, which a native service cannot judge, so it denies every connection"
	for _, command := range []string{"check", "why"} {
		result := p.lab.Run("intentions", command, "web", "mongo-secondary")
		if result.Code != 1 || !strings.Contains(result.Stdout, words) {
			p.Errorf("%s: %s", command, result)
		}
	}
	if result := p.lab.Must("intentions", "list"); !strings.Contains(result.Stdout, "deny (HTTP permissions)") {
		p.Errorf("list: %s", result)
	}
	_, secondaries := p.members()
	listener := target{secondaries[0].Address + ":27019", "mongo-secondary"}
	labtest.Eventually(p, 5*time.Second, "web is refused", func() error {
		events := p.ask("web-1", order{Service: "web", TokenFile: p.token("web", "web-1"), Attempts: []attempt{
			{Name: "web to mongo-secondary", Certificate: "own", target: listener},
		}})
		if len(events) != 1 || events[0].Result != denied {
			return fmt.Errorf("%v", events)
		}
		return nil
	})
}

func (p *proof) writeConfig(content string) error {
	return p.consulRequest(http.MethodPut, "/v1/config", content)
}

// consulRequest asks Consul with the management token, which no command uses.
func (p *proof) consulRequest(method, path, content string) error {
	token, err := os.ReadFile(p.secret("management.token"))
	if err != nil {
		return err
	}
	request, err := http.NewRequest(method, p.lab.URL(8500, path), bytes.NewBufferString(content))
	if err != nil {
		return err
	}
	request.Header.Set("X-Consul-Token", strings.TrimSpace(string(token)))
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, body)
	}
	return nil
}
