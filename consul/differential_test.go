package consul

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/identity"
	"sluice/intentions"
	"sluice/internal/consultest"
)

const (
	sourceCount, destinationCount = 11, 10
	differentialRounds            = 10
	// httpDestinations are those of the HTTP protocol: Consul takes permissions on
	// requests only there.
	httpDestinations = 5
)

// world is one agent with policies of every service, and the agent's own verdict
// to compare with.
type world struct {
	agent                 *consultest.Agent
	client                *Client
	sources, destinations []string
	asDestination         map[string]*Intentions
	asSource              map[string]*Intentions
	held                  map[string]bool
	fallback              intentions.Action
	random                *rand.Rand
}

func newWorld(t *testing.T, fallback intentions.Action, random *rand.Rand) *world {
	t.Helper()
	w := &world{
		agent:         consultest.Start(t, consultest.Config{DefaultIntentions: string(fallback)}),
		asDestination: map[string]*Intentions{}, asSource: map[string]*Intentions{}, held: map[string]bool{},
		fallback: fallback, random: random,
	}
	w.client = open(t, w.agent, w.agent.ManagementFile())
	for i := range sourceCount {
		w.sources = append(w.sources, fmt.Sprintf("source-%d", i))
	}
	for i := range destinationCount {
		w.destinations = append(w.destinations, fmt.Sprintf("destination-%d", i))
		if i < httpDestinations {
			w.agent.Call(http.MethodPut, "/v1/config",
				map[string]any{"Kind": "service-defaults", "Name": w.destinations[i], "Protocol": "http"}, nil)
		}
	}
	var runs []func(context.Context) error
	for _, name := range w.destinations {
		w.asDestination[name] = w.client.DestinationPolicy(name)
		runs = append(runs, w.asDestination[name].Run)
	}
	for _, name := range w.sources {
		w.asSource[name] = w.client.SourcePolicy(name)
		runs = append(runs, w.asSource[name].Run)
	}
	running(t, func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		for _, run := range runs {
			group.Go(func() error { return run(ctx) })
		}
		return group.Wait()
	})
	// Before the first wildcard intention, which hides the default.
	w.settled(t, nil)
	return w
}

// write replaces all intentions by random ones and returns them.
func (w *world) write() []intentions.Rule {
	var all []intentions.Rule
	for i, destination := range append(slices.Clone(w.destinations), intentions.Wildcard) {
		rules := w.randomRules(destination, i < httpDestinations)
		w.put(destination, rules)
		all = append(all, rules...)
	}
	return all
}

func (w *world) randomRules(destination string, http bool) []intentions.Rule {
	if w.random.IntN(5) == 0 {
		return nil
	}
	var rules []intentions.Rule
	for _, source := range append([]string{intentions.Wildcard}, w.sources...) {
		if w.random.IntN(3) > 0 {
			continue
		}
		rule := intentions.Rule{Source: source, Destination: destination, Action: intentions.Allow}
		switch n := w.random.IntN(5); {
		case n < 2:
			rule.Action = intentions.Deny
		case n == 2 && http:
			rule.Action, rule.L7 = "", true
		}
		rules = append(rules, rule)
	}
	return rules
}

func (w *world) put(destination string, rules []intentions.Rule) {
	if len(rules) == 0 {
		if w.held[destination] {
			w.agent.Call(http.MethodDelete, "/v1/config/service-intentions/"+destination, nil, nil)
		}
		w.held[destination] = false
		return
	}
	var sources []map[string]any
	for _, rule := range rules {
		source := map[string]any{"Name": rule.Source}
		if rule.L7 {
			source["Permissions"] = []map[string]any{{"Action": "allow", "HTTP": map[string]any{"PathPrefix": "/"}}}
		} else {
			source["Action"] = string(rule.Action)
		}
		sources = append(sources, source)
	}
	w.agent.Call(http.MethodPut, "/v1/config", map[string]any{"Kind": "service-intentions", "Name": destination, "Sources": sources}, nil)
	w.held[destination] = true
}

// authorize is the agent's verdict. The token must be new in each round: the agent
// caches intentions by token, and does not keep what it has cached up to date.
func (w *world) authorize(t *testing.T, token, source, destination string) bool {
	t.Helper()
	var answer struct{ Authorized bool }
	status, body, err := w.agent.Raw(t.Context(), http.MethodPost, authorizePath, token, map[string]string{
		"Target": destination, "ClientCertURI": "spiffe://aaaa.consul/ns/default/dc/dc1/svc/" + source,
	})
	if err != nil || status != http.StatusOK {
		t.Fatalf("authorize: %d %s %v", status, body, err)
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Authorized
}

// settled waits until our watches have seen the round.
func (w *world) settled(t *testing.T, rules []intentions.Rule) {
	t.Helper()
	for _, destination := range w.destinations {
		has(t, w.asDestination[destination], rules, w.fallback, func(r intentions.Rule) bool {
			return r.Destination == destination || r.Destination == intentions.Wildcard
		})
	}
	for _, source := range w.sources {
		has(t, w.asSource[source], rules, w.fallback, func(r intentions.Rule) bool {
			return r.Source == source || r.Source == intentions.Wildcard
		})
	}
}

// has waits until policy holds exactly those of rules that it should.
func has(t *testing.T, policy *Intentions, rules []intentions.Rule, fallback intentions.Action, match func(intentions.Rule) bool) {
	t.Helper()
	var expected []intentions.Rule
	for _, rule := range rules {
		if match(rule) {
			expected = append(expected, rule)
		}
	}
	want := intentions.NewSet(expected, fallback)
	consultest.Await(t, 10*time.Second, "the watch has the round for "+policy.service, func() error {
		if p, ok := policy.Policy(); !ok || !p.Set.Equal(want) {
			return fmt.Errorf("it has %v, default %s", p.Set.Rules(), p.Set.Default())
		}
		return nil
	})
}

// TestOurVerdictIsTheAgents holds the in-process decision to the agent's authorize
// endpoint, for random intentions, on both defaults.
func TestOurVerdictIsTheAgents(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	pairs, allowed := 0, 0
	for _, fallback := range []intentions.Action{intentions.Deny, intentions.Allow} {
		w := newWorld(t, fallback, rand.New(rand.NewPCG(seed, 1)))
		for round := range differentialRounds {
			rules := w.write()
			w.settled(t, rules)
			token := w.agent.ServiceToken(w.destinations...)
			for _, destination := range w.destinations {
				for _, source := range w.sources {
					want := w.authorize(t, token, source, destination)
					asDestination, _ := w.asDestination[destination].Policy()
					asSource, _ := w.asSource[source].Policy()
					for side, set := range map[string]intentions.Set{"destination": asDestination.Set, "source": asSource.Set} {
						if got := set.Decide(source, destination); got.Allowed != want {
							t.Fatalf("round %d: as %s: %s; the agent says %t", round, side, got, want)
						}
					}
					if pairs++; want {
						allowed++
					}
				}
			}
		}
	}
	t.Logf("%d pairs agree, %d of them allowed", pairs, allowed)
	if pairs < 2000 {
		t.Errorf("only %d pairs", pairs)
	}
}

// TestOurVerdictFollowsEveryChange toggles one intention and holds our verdict to
// it each time. The agent's own verdict is only shown: in Consul 1.22 it stays
// behind for ever after the first few changes.
func TestOurVerdictFollowsEveryChange(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	client := open(t, agent, agent.ServiceFile("db"))
	policy := client.DestinationPolicy("db")
	running(t, policy.Run)
	web, err := identity.New("aaaa.consul", "dc1", "web")
	if err != nil {
		t.Fatal(err)
	}
	const toggles = 10
	stale, slowest := 0, time.Duration(0)
	for i := range toggles {
		action := []intentions.Action{intentions.Allow, intentions.Deny}[i%2]
		intend(agent, "web", "db", string(action))
		took := consultest.Await(t, 5*time.Second, "our verdict follows", decides(policy, "web", "db", action == intentions.Allow))
		slowest = max(slowest, took)
		answer, err := client.authorize(t.Context(), web.String(), "db")
		if err != nil {
			t.Fatal(err)
		}
		if answer.Authorized != (action == intentions.Allow) {
			stale++
		}
		decision, err := client.Verdicts().Authorize(t.Context(), web, "db")
		if err != nil || decision.Allowed && action == intentions.Deny {
			t.Errorf("toggle %d: the slow path says %s, %v", i, decision, err)
		}
	}
	t.Logf("ours followed all %d changes, the slowest after %s; the agent's own verdict was an old one %d times", toggles, slowest, stale)
}
