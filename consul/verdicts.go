package consul

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/hashicorp/consul/api"

	"sluice/identity"
	"sluice/intentions"
	"sluice/mesh"
)

// authorizePath is the agent's endpoint for a verdict on one connection.
const authorizePath = "/v1/agent/connect/authorize"

// Verdicts returns the slow path to a verdict, for the moments in which no policy
// has arrived: the agent's authorize endpoint, and, if that allows, Consul's
// servers. Both must allow. It never waits longer than two seconds for each, and
// never behind a blocking query.
//
// The agent alone is not believed, because it answers from a cache whose refresh
// ends with the request that filled it (Consul 1.22: agent/cache/cache.go, fetch,
// runs in the context of that request). After one or two changes of the
// intentions its answer is an old one, for as long as it is asked for.
func (c *Client) Verdicts() mesh.Verdicts { return verdicts{client: c} }

type verdicts struct{ client *Client }

// Authorize implements mesh.Verdicts.
func (v verdicts) Authorize(ctx context.Context, source identity.ID, destination string) (intentions.Decision, error) {
	answer, err := v.client.authorize(ctx, source.String(), destination)
	if err != nil {
		return intentions.Decision{}, err
	}
	decision := intentions.Decision{
		Source: source.Service(), Destination: destination,
		Allowed: answer.Authorized, Rule: ruleFromReason(answer.Reason),
	}
	if !decision.Allowed {
		return decision, nil
	}
	ctx, cancel := context.WithTimeout(ctx, verdictTimeout)
	defer cancel()
	if decision.Allowed, err = v.client.Check(ctx, source.Service(), destination); err != nil {
		return intentions.Decision{}, err
	}
	if !decision.Allowed {
		// The agent's rule is not the one that decided.
		decision.Rule = nil
		return decision, nil
	}
	// What the datacenter itself denies, Consul knows nothing of.
	overlay, err := v.client.Overlay(ctx)
	if err != nil {
		return intentions.Decision{}, err
	}
	if over := intentions.NewSet(nil, intentions.Allow).Under(overlay).Decide(source.Service(), destination); !over.Allowed {
		return over, nil
	}
	return decision, nil
}

// authorize is api.Agent.ConnectAuthorize with a context, which that lacks.
func (c *Client) authorize(ctx context.Context, sourceURI, destination string) (api.AgentAuthorize, error) {
	ctx, cancel := context.WithTimeout(ctx, verdictTimeout)
	defer cancel()
	attempt := "authorize a connection to " + destination
	body, err := json.Marshal(api.AgentAuthorizeParams{Target: destination, ClientCertURI: sourceURI})
	if err != nil {
		return api.AgentAuthorize{}, fmt.Errorf("%s: %w", attempt, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+authorizePath, bytes.NewReader(body))
	if err != nil {
		return api.AgentAuthorize{}, fmt.Errorf("%s: %w", attempt, err)
	}
	response, err := c.briefHTTP.Do(request)
	if err != nil {
		return api.AgentAuthorize{}, fmt.Errorf("%s: %w", attempt, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return api.AgentAuthorize{}, fmt.Errorf("%s: %w", attempt, err)
	}
	if response.StatusCode != http.StatusOK {
		err := api.StatusError{Code: response.StatusCode, Body: strings.TrimSpace(string(data))}
		return api.AgentAuthorize{}, explain(attempt, serviceRule(destination, "write"), err)
	}
	var answer api.AgentAuthorize
	if err := json.Unmarshal(data, &answer); err != nil {
		return api.AgentAuthorize{}, fmt.Errorf("%s: read the answer: %w", attempt, err)
	}
	return answer, nil
}

// isDefaultReason reports whether the agent says that no intention matched, so
// that the default policy decided.
func isDefaultReason(reason string) bool { return strings.HasPrefix(reason, "Default ") }

// ruleFromReason reads the intention out of the agent's reason, which has the form
// "Matched L4 intention: default/web => default/db (ID: , Precedence: 9, Action: ALLOW)".
// nil means that none matched, or that the reason has another form.
func ruleFromReason(reason string) *intentions.Rule {
	var rule intentions.Rule
	rest, ok := strings.CutPrefix(reason, "Matched L4 intention: ")
	if !ok {
		if rest, ok = strings.CutPrefix(reason, "Matched L7 intention: "); !ok {
			return nil
		}
		rule.L7 = true
	}
	edge, detail, ok := strings.Cut(rest, " (")
	source, destination, arrow := strings.Cut(edge, " => ")
	if !ok || !arrow {
		return nil
	}
	rule.Source = source[strings.LastIndexByte(source, '/')+1:]
	rule.Destination = destination[strings.LastIndexByte(destination, '/')+1:]
	switch detail = strings.ToLower(detail); {
	case rule.L7:
	case strings.Contains(detail, "allow"):
		rule.Action = intentions.Allow
	default:
		rule.Action = intentions.Deny
	}
	return &rule
}
