package consul

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sluice/identity"
	"sluice/intentions"
	"sluice/internal/consultest"
)

func decides(policy *Intentions, source, destination string, want bool) func() error {
	return func() error {
		p, ok := policy.Policy()
		if !ok {
			return errors.Join(errors.New("no policy yet"), policy.Err())
		}
		if d := p.Set.Decide(source, destination); d.Allowed != want {
			return errors.New(d.String())
		}
		return nil
	}
}

func TestAPolicyFollowsIntentionsAsDestinationAndAsSource(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	db := open(t, agent, agent.ServiceFile("db")).DestinationPolicy("db")
	web := open(t, agent, agent.ServiceFile("web")).SourcePolicy("web")
	running(t, db.Run)
	running(t, web.Run)
	for _, policy := range []*Intentions{db, web} {
		consultest.Await(t, 5*time.Second, "denied without an intention", decides(policy, "web", "db", false))
		changed := policy.Changed()
		intend(agent, "web", "db", "allow")
		took := consultest.Await(t, 5*time.Second, "allowed by an intention", decides(policy, "web", "db", true))
		consultest.Await(t, time.Second, "Changed tells it", closed(changed))
		t.Logf("allow seen after %s", took)
		intend(agent, "web", "db", "deny")
		took = consultest.Await(t, 5*time.Second, "denied by an intention", decides(policy, "web", "db", false))
		t.Logf("deny seen after %s", took)
	}
	if p, _ := db.Policy(); p.Set.Decide("web", "db").Rule == nil {
		t.Error("the verdict does not name the intention")
	}
}

func TestTheDefaultPolicyIsLearnedFromTheAgent(t *testing.T) {
	t.Parallel()
	for _, action := range []intentions.Action{intentions.Allow, intentions.Deny} {
		t.Run(string(action), func(t *testing.T) {
			agent := consultest.Start(t, consultest.Config{DefaultIntentions: string(action)})
			client := open(t, agent, agent.ServiceFile("db"))
			early := client.DestinationPolicy("db")
			running(t, early.Run)
			consultest.Await(t, 5*time.Second, "the default decides", decides(early, "web", "db", action == intentions.Allow))

			intend(agent, "*", "db", "allow")
			late := client.DestinationPolicy("db")
			running(t, late.Run)
			for policy, want := range map[*Intentions]intentions.Action{early: action, late: intentions.Deny} {
				consultest.Await(t, 5*time.Second, "the wildcard intention decides", decides(policy, "web", "db", true))
				if p, _ := policy.Policy(); p.Set.Default() != want {
					t.Errorf("the default behind a wildcard intention is %s, want %s", p.Set.Default(), want)
				}
			}
			agent.Call("DELETE", "/v1/connect/intentions/exact?source=*&destination=db", nil, nil)
			for _, policy := range []*Intentions{early, late} {
				consultest.Await(t, 5*time.Second, "the default decides again", decides(policy, "web", "db", action == intentions.Allow))
			}
			if log := agent.Log(); strings.Contains(log, "Permission denied") {
				t.Errorf("the agent had to refuse a question:\n%s", log)
			}
		})
	}
}

// The agent's own answer would stay the same when the intention has gone.
func TestTheDefaultIsNotAskedForWhileAnIntentionHidesIt(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		_, _ = w.Write([]byte(`{"Authorized":true,"Reason":"Default behavior configured by ACLs"}`))
	}))
	defer server.Close()
	client := openAt(t, server.URL, "")
	rule := func(source, destination string) intentions.Rule {
		return intentions.Rule{Source: source, Destination: destination, Action: intentions.Allow}
	}
	for name, test := range map[string]struct {
		policy *Intentions
		rules  []intentions.Rule
		asks   bool
	}{
		"no rule":               {client.DestinationPolicy("web"), nil, true},
		"a rule of one source":  {client.DestinationPolicy("web"), []intentions.Rule{rule("app", "web")}, true},
		"a rule of any source":  {client.DestinationPolicy("web"), []intentions.Rule{rule("app", "web"), rule("*", "web")}, false},
		"a rule of all":         {client.SourcePolicy("web"), []intentions.Rule{rule("*", "*")}, false},
		"of any to the source":  {client.SourcePolicy("web"), []intentions.Rule{rule("*", "web")}, false},
		"of any to another one": {client.SourcePolicy("web"), []intentions.Rule{rule("*", "db")}, true},
	} {
		for _, known := range []bool{false, true} {
			asked = 0
			learned := defaultPolicy{known: known, recoveries: 1} // and not since the agent is back
			test.policy.learnDefault(t.Context(), &learned, State[[]intentions.Rule]{Known: true, Value: test.rules, Recoveries: 2})
			if (asked == 1) != test.asks || learned.known != (known || test.asks) || test.asks && learned.action != intentions.Allow {
				t.Errorf("%s, known before: %t: asked %d times, then %+v", name, known, asked, learned)
			}
		}
	}
}

func TestWithoutTheRightToAskTheDefaultIsDeny(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{DefaultIntentions: "allow"})
	reader := open(t, agent, agent.PolicyFile(`service "db" { policy = "read" }`)).DestinationPolicy("db")
	running(t, reader.Run)
	consultest.Await(t, 5*time.Second, "an answer", decides(reader, "web", "db", false))
	if err := decides(reader, "web", "db", true)(); err == nil {
		t.Error("allowed by a default that was never learned")
	}
}

func TestIntentionsWithoutARightSayWhichRuleIsMissing(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	stranger := open(t, agent, agent.PolicyFile(`service "other" { policy = "write" }`)).DestinationPolicy("db")
	running(t, stranger.Run)
	consultest.Await(t, 5*time.Second, "refused", func() error {
		if err := stranger.Err(); !errors.Is(err, ErrForbidden) {
			return unequal("the error", err, ErrForbidden)
		}
		return nil
	})
	t.Log(stranger.Err())
	if _, ok := stranger.Policy(); ok {
		t.Error("a policy without the right to read one")
	}
}

func TestVerdictsAreTheAgents(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	intend(agent, "web", "db", "allow")
	verdicts := open(t, agent, agent.ServiceFile("db")).Verdicts()
	for source, want := range map[string]bool{"web": true, "stranger": false} {
		id, err := identity.New("aaaa.consul", "dc1", source)
		if err != nil {
			t.Fatal(err)
		}
		decision, err := verdicts.Authorize(t.Context(), id, "db")
		if err != nil || decision.Allowed != want || (decision.Rule != nil) != want {
			t.Errorf("%s: %s, %v", source, decision, err)
		}
		if _, err := verdicts.Authorize(t.Context(), id, "other"); !errors.Is(err, ErrForbidden) {
			t.Errorf("about another service: %v, want ErrForbidden", err)
		}
	}
	agent.Stop()
	defer agent.Continue()
	id, _ := identity.New("aaaa.consul", "dc1", "web")
	start := time.Now()
	_, err := verdicts.Authorize(t.Context(), id, "db")
	if took := time.Since(start); err == nil || !errors.Is(err, context.DeadlineExceeded) || took > verdictTimeout+time.Second {
		t.Errorf("a hung agent: %v after %s, want a deadline error within %s", err, took, verdictTimeout)
	}
}
