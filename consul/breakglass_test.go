package consul

import (
	"errors"
	"testing"
	"time"

	"sluice/identity"
	"sluice/intentions"
	"sluice/internal/consultest"
)

const glass = "sluice/deny"

// A service of web: it reads what its datacenter denies, as the lab's services do.
const webWithGlass = `
node_prefix "" { policy = "read" }
service "web" { policy = "write" }
service_prefix "" { policy = "read" }
key_prefix "sluice/deny" { policy = "read" }
`

func openWithGlass(t *testing.T, agent *consultest.Agent, token string) *Client {
	t.Helper()
	client, err := Open(Config{Address: agent.Address, TokenFile: token, BreakGlass: glass})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func TestABreakGlassDenialHoldsOverAnIntentionUntilItIsLifted(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	web := openWithGlass(t, agent, agent.PolicyFile(webWithGlass))
	glassy := openWithGlass(t, agent, agent.PolicyFile(`key_prefix "sluice/deny" { policy = "write" }`))
	policy := web.SourcePolicy("web")
	running(t, policy.Run)
	intend(agent, "web", "db", "allow")
	consultest.Await(t, 5*time.Second, "allowed by an intention", decides(policy, "web", "db", true))

	denial := intentions.Denial{Source: "web", Destination: "db", By: "ann", Reason: "stolen"}
	if err := web.Deny(t.Context(), denial); !errors.Is(err, ErrForbidden) {
		t.Errorf("a service denies by itself: %v", err)
	}
	changed := policy.Changed()
	if err := glassy.Deny(t.Context(), denial); err != nil {
		t.Fatal(err)
	}
	took := consultest.Await(t, 5*time.Second, "denied by break-glass", decides(policy, "web", "db", false))
	consultest.Await(t, time.Second, "Changed tells it", closed(changed))
	t.Logf("the denial was seen after %s", took)
	if p, _ := policy.Policy(); p.Set.Decide("web", "db").Denial == nil {
		t.Error("the verdict does not name the denial")
	}
	source, err := identity.New(domainOf(t, web), "dc1", "web")
	if err != nil {
		t.Fatal(err)
	}
	judge := openWithGlass(t, agent, agent.ManagementFile())
	if d, err := judge.Verdicts().Authorize(t.Context(), source, "db"); err != nil || d.Allowed || d.Denial == nil {
		t.Errorf("the slow path lets it through: %+v, %v", d, err)
	}
	if there, err := glassy.Lift(t.Context(), denial); err != nil || !there {
		t.Errorf("lift: %t, %v", there, err)
	}
	consultest.Await(t, 5*time.Second, "the intention decides again", decides(policy, "web", "db", true))
	if there, err := glassy.Lift(t.Context(), denial); err != nil || there {
		t.Errorf("lift what is not there: %t, %v", there, err)
	}
}

func domainOf(t *testing.T, client *Client) string {
	t.Helper()
	roots := client.watchRoots(nil)
	running(t, roots.Run)
	domain, err := awaitTrustDomain(t.Context(), roots)
	if err != nil {
		t.Fatal(err)
	}
	return domain
}

// Who cannot know what is denied must not let anybody in.
func TestWithoutTheRightToReadDenialsThereIsNoPolicy(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t, consultest.Config{})
	if err := openWithGlass(t, agent, agent.ManagementFile()).Deny(t.Context(), intentions.Denial{Source: "x", Destination: "y"}); err != nil {
		t.Fatal(err)
	}
	web := openWithGlass(t, agent, agent.ServiceFile("web"))
	policy := web.SourcePolicy("web")
	running(t, policy.Run)
	intend(agent, "web", "db", "allow")
	consultest.Await(t, 10*time.Second, "the refusal has arrived", func() error {
		if err := policy.overlay.State().Err; !errors.Is(err, ErrForbidden) {
			return errors.Join(errors.New("not refused yet"), err)
		}
		return nil
	})
	if p, known := policy.Policy(); known {
		t.Errorf("a policy was published: %+v", p)
	}
	if _, err := web.Overlay(t.Context()); !errors.Is(err, ErrForbidden) {
		t.Errorf("the slow path: %v, want a refusal", err)
	}
}
