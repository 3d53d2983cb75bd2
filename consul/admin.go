package consul

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/hashicorp/consul/api"

	"sluice/intentions"
)

// Token is an ACL token with the one policy that it carries.
type Token struct {
	// Name is unique; the policy is named after it.
	Name        string
	Description string
	// Secret is the token itself, a UUID.
	Secret string
	// NodeIdentity, when not empty, gives the token the node identity of that node
	// in Datacenter, on top of Rules.
	NodeIdentity string
	Datacenter   string
	// Rules is a policy in Consul's ACL language; empty is none.
	Rules string
}

// AwaitLeader fails until the agent's datacenter has a leader that takes this
// client's token and knows all that was ever written. A new server answers before
// its ACL system does, and one that was restarted before it has read its log again:
// what it does not know yet would look as if it had never been.
func (c *Client) AwaitLeader(ctx context.Context) error {
	leader, err := c.brief.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("ask for the leader: %w", err)
	}
	if leader == "" {
		return errors.New("ask for the leader: none is elected yet")
	}
	consistent := (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
	if _, _, err := c.brief.ACL().TokenReadSelf(consistent); err != nil {
		return fmt.Errorf("read the own ACL token: %w", err)
	}
	return nil
}

// PutToken makes a token and its policy what they should be, whether or not they
// exist. It needs acl:write.
func (c *Client) PutToken(ctx context.Context, token Token) error {
	wanted := &api.ACLToken{AccessorID: accessor(token.Name), SecretID: token.Secret, Description: token.Description}
	if token.NodeIdentity != "" {
		wanted.NodeIdentities = []*api.ACLNodeIdentity{{NodeName: token.NodeIdentity, Datacenter: token.Datacenter}}
	}
	if token.Rules != "" {
		id, err := c.putPolicy(ctx, token)
		if err != nil {
			return fmt.Errorf("write policy %s: %w", token.Name, err)
		}
		wanted.Policies = []*api.ACLTokenPolicyLink{{ID: id}}
	}
	if err := c.putToken(ctx, wanted); err != nil {
		return fmt.Errorf("write token %s: %w", token.Name, err)
	}
	return nil
}

func (c *Client) putPolicy(ctx context.Context, token Token) (string, error) {
	query := (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
	write := (&api.WriteOptions{}).WithContext(ctx)
	wanted := &api.ACLPolicy{Name: token.Name, Description: token.Description, Rules: token.Rules}
	existing, _, err := c.brief.ACL().PolicyReadByName(token.Name, query)
	if err == nil && existing != nil {
		wanted.ID = existing.ID
		if existing.Rules == wanted.Rules && existing.Description == wanted.Description {
			return existing.ID, nil
		}
		_, _, err = c.brief.ACL().PolicyUpdate(wanted, write)
		return wanted.ID, err
	}
	created, _, err := c.brief.ACL().PolicyCreate(wanted, write)
	if err != nil {
		return "", err
	}
	if created == nil || created.ID == "" {
		return "", errOther
	}
	return created.ID, nil
}

func (c *Client) putToken(ctx context.Context, wanted *api.ACLToken) error {
	query := (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
	write := (&api.WriteOptions{}).WithContext(ctx)
	if existing, _, err := c.brief.ACL().TokenRead(wanted.AccessorID, query); err == nil && existing != nil {
		_, _, err = c.brief.ACL().TokenUpdate(wanted, write)
		return err
	}
	_, _, err := c.brief.ACL().TokenCreate(wanted, write)
	return err
}

// accessor is the token's public name in Consul, always the same for a token's
// own name, so that a second write finds the first. It is no secret.
func accessor(name string) string {
	sum := sha256.Sum256([]byte("sluice token " + name))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// ReplaceIntentions makes Consul hold exactly these entries. It is for the
// start of a lab, before anybody else writes; people use plan and apply.
func (c *Client) ReplaceIntentions(ctx context.Context, entries []intentions.Entry) error {
	live, err := c.ListIntentions(ctx)
	if err != nil {
		return err
	}
	versions := make(map[string]uint64, len(live))
	for _, entry := range live {
		versions[entry.Destination] = entry.Version
	}
	for _, entry := range entries {
		entry.Version = versions[entry.Destination]
		delete(versions, entry.Destination)
		if err := c.ApplyEntry(ctx, entry); err != nil {
			return err
		}
	}
	for destination, version := range versions {
		if err := c.DeleteEntry(ctx, destination, version); err != nil {
			return err
		}
	}
	return nil
}

// RotateRoot makes the primary datacenter sign by a new root. Consul makes the
// key itself, because its configuration has changed, and it never leaves Consul: a
// key that we made would stand in the configuration, for every operator to read.
// Consul cross-signs the new root and goes on trusting the old one until its leaves
// have gone (Consul documentation, "Certificate authority: root rotation"). It
// needs operator:write.
func (c *Client) RotateRoot(ctx context.Context) error {
	config, _, err := c.brief.Connect().CAGetConfig((&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("read the certificate authority's configuration: %w", err)
	}
	if config.Config == nil {
		return fmt.Errorf("read the certificate authority's configuration: %w", errOther)
	}
	delete(config.Config, "PrivateKey")
	delete(config.Config, "RootCert")
	config.Config["PrivateKeyType"] = "ec"
	bits := 384
	if fmt.Sprint(config.Config["PrivateKeyBits"]) == "384" {
		bits = 256
	}
	config.Config["PrivateKeyBits"] = bits
	if _, err := c.brief.Connect().CASetConfig(config, (&api.WriteOptions{}).WithContext(ctx)); err != nil {
		return fmt.Errorf("rotate the root: %w", err)
	}
	return nil
}
