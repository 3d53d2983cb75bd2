package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/internal/consultest"
)

// overrideRights are what a gateway that follows overrides needs.
const overrideRights = `
service "gateway" { policy = "write" }
service_prefix "" { policy = "read" }
node_prefix "" { policy = "read" }
key_prefix "fabio/config" { policy = "read" }
`

// effect is how long a line may take from the write to the first request that
// feels it.
const effect = 2 * time.Second

// writeOverride writes lines to a key; none delete it.
func writeOverride(t *testing.T, agent *consultest.Agent, key string, lines ...string) {
	t.Helper()
	method := http.MethodPut
	if len(lines) == 0 {
		method = http.MethodDelete
	}
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+agent.Address+"/v1/kv/"+key, strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Consul-Token", agent.Management())
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s", method, key, response.Status)
	}
}

// ignored is a line of GET /overrides.
type ignored struct {
	Source string
	Line   int
	Text   string
	Reason string
}

func overridesAre(admin string, commands int, check func([]ignored) error) func() error {
	return func() error {
		_, body, err := get(admin + "/overrides")
		if err != nil {
			return err
		}
		var state struct {
			Commands int
			Ignored  []ignored `json:"ignored_lines"`
		}
		if err := json.Unmarshal([]byte(body), &state); err != nil {
			return err
		}
		if state.Commands != commands {
			return fmt.Errorf("%d commands hold: %s", state.Commands, body)
		}
		return check(state.Ignored)
	}
}

func none(list []ignored) error {
	if len(list) > 0 {
		return fmt.Errorf("ignored: %+v", list)
	}
	return nil
}

// plainly runs a service without Connect and returns its URL.
func plainly(t *testing.T, name string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, name, " saw ", r.URL.Path)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/"
}

// shared asks until each of the answers was seen, and fails on any other.
func shared(url string, answers ...string) func() error {
	return func() error {
		seen := map[string]bool{}
		for range 200 {
			status, body, err := get(url)
			if err != nil {
				return err
			}
			at := slices.IndexFunc(answers, func(a string) bool { return strings.HasPrefix(body, a) })
			if status != http.StatusOK || at < 0 {
				return fmt.Errorf("%d %s", status, body)
			}
			seen[answers[at]] = true
			if len(seen) == len(answers) {
				return nil
			}
		}
		return fmt.Errorf("only %v answered", seen)
	}
}

// asked asks often and wants the same answer each time.
func asked(url, answer string) func() error {
	return func() error {
		for range 20 {
			if err := answers(url, http.StatusOK, answer)(); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestOverridesInARealConsulBiteWithinTwoSecondsAndABadLineSpoilsNoOther(t *testing.T) {
	agent := consultest.Start(t, consultest.Config{})
	intend(agent, "allow")
	startWeb(t, agent)
	canary, added := plainly(t, "canary"), plainly(t, "added")
	startProcess(t, "-node", agent.Node, "-address", agent.Host, "-loopback", agent.Host, "-allow-plain",
		"-consul", agent.Address, "-explain-errors", "-token-file", agent.PolicyFile(overrideRights))
	url := "http://" + net.JoinHostPort(agent.Host, "9999")
	admin := "http://" + net.JoinHostPort(agent.Host, "9998")
	consultest.Await(t, 20*time.Second, "the gateway is ready", answers(admin+"/readyz", 200))
	if err := answers(url+"/added", 404)(); err != nil {
		t.Fatal(err)
	}

	add := "route add added /added " + added
	addCanary := "route add canary /web " + canary
	for _, step := range []struct {
		claim string
		lines []string
		feels func() error
	}{
		{"an added route serves", []string{add}, answers(url+"/added/x", 200, "added saw /added/x")},
		{"two services share a route", []string{add, addCanary}, shared(url+"/web", "hello spiffe://", "canary")},
		{"a weight of all is all", []string{add, addCanary, "route weight canary /web weight 1"}, asked(url+"/web", "canary")},
		{"a weight of half is shared", []string{add, addCanary, "route weight canary /web weight 0.5"}, shared(url+"/web", "hello spiffe://", "canary")},
		{"a deleted service is not asked", []string{add, addCanary, "route del web /web"}, asked(url+"/web", "canary")},
		{"a deleted route is no more", []string{add, "route del web"}, answers(url+"/web", 404)},
		{"what is no longer deleted is back", []string{add}, asked(url+"/web", "hello spiffe://")},
	} {
		writeOverride(t, agent, "fabio/config", step.lines...)
		took := consultest.Await(t, effect, step.claim, step.feels)
		if err := overridesAre(admin, len(step.lines), none)(); err != nil {
			t.Errorf("%s: %v", step.claim, err)
		}
		t.Logf("%s: %v after the write", step.claim, took.Round(time.Millisecond))
	}

	writeOverride(t, agent, "fabio/config", "# the first line says nothing", add, "route wieght canary /web weight 1", addCanary, "route weight canary /web weight 1")
	consultest.Await(t, effect, "the good lines around a bad one hold", asked(url+"/web", "canary"))
	if err := overridesAre(admin, 3, func(list []ignored) error {
		if len(list) != 1 || list[0].Line != 3 || list[0].Source != "fabio/config" || !strings.Contains(list[0].Text, "wieght") || list[0].Reason == "" {
			return fmt.Errorf("want line 3 of fabio/config alone: %+v", list)
		}
		return nil
	})(); err != nil {
		t.Error(err)
	}
	if err := answers(url+"/added", 200, "added")(); err != nil {
		t.Errorf("a good line before the bad one: %v", err)
	}

	writeOverride(t, agent, "fabio/config/more", "route nonsense", "route del added")
	consultest.Await(t, effect, "a key below the first is read after it", answers(url+"/added", 404))
	if err := overridesAre(admin, 4, func(list []ignored) error {
		if len(list) != 2 || list[1].Source != "fabio/config/more" || list[1].Line != 1 {
			return errors.New("want one bad line in each key, counted in its own key")
		}
		return nil
	})(); err != nil {
		t.Error(err)
	}

	writeOverride(t, agent, "fabio/config")
	writeOverride(t, agent, "fabio/config/more")
	consultest.Await(t, effect, "without keys only what is discovered holds", asked(url+"/web", "hello spiffe://"))
	if err := overridesAre(admin, 0, none)(); err != nil {
		t.Error(err)
	}
}
