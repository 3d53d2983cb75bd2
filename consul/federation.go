package consul

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/consul/api"
)

// AwaitReplication fails until the agent's datacenter, a secondary one, holds every
// policy and token that the primary holds at the call (Consul API, "ACL replication
// status"). Whoever shows a token before that is refused, and the refusal is kept
// for half a minute. It needs acl:read.
func (c *Client) AwaitReplication(ctx context.Context, primary string) error {
	there := (&api.QueryOptions{Datacenter: primary}).WithContext(ctx)
	_, policies, err := c.brief.ACL().PolicyList(there)
	if err != nil {
		return fmt.Errorf("list the policies of %s: %w", primary, err)
	}
	_, tokens, err := c.brief.ACL().TokenList(there)
	if err != nil {
		return fmt.Errorf("list the tokens of %s: %w", primary, err)
	}
	status, _, err := c.brief.ACL().Replication(query(ctx))
	switch {
	case err != nil:
		return fmt.Errorf("ask for the state of replication: %w", err)
	case status == nil:
		return fmt.Errorf("ask for the state of replication: %w", errOther)
	case !status.Enabled || !status.Running:
		return errors.New("replication does not run yet")
	case status.ReplicatedIndex < policies.LastIndex || status.ReplicatedTokenIndex < tokens.LastIndex:
		return fmt.Errorf("copied up to index %d of %d (policies) and %d of %d (tokens); last error: %q",
			status.ReplicatedIndex, policies.LastIndex, status.ReplicatedTokenIndex, tokens.LastIndex, status.LastErrorMessage)
	}
	return nil
}

// AwaitSigning fails until the agent's datacenter signs a leaf. A secondary shows the
// primary's roots before it can, and logs why it cannot and nothing else. It needs
// service:write on every name.
func (c *Client) AwaitSigning(ctx context.Context) error {
	if _, _, err := c.brief.Agent().ConnectCALeaf("web", query(ctx)); err != nil {
		return fmt.Errorf("ask for a leaf: %w", err)
	}
	return nil
}

// ForgetServer takes a server of another datacenter, which has ended, out of the list
// of the federation's servers, so that the datacenter is not looked for any more. It
// needs operator:write.
func (c *Client) ForgetServer(ctx context.Context, node, datacenter string) error {
	name := node + "." + datacenter
	err := c.brief.Agent().ForceLeaveOptions(name, api.ForceLeaveOpts{Prune: true, WAN: true}, query(ctx))
	if err != nil {
		return fmt.Errorf("forget server %s: %w", name, err)
	}
	return nil
}
