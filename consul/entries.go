package consul

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/consul/api"

	"sluice/intentions"
)

// intentionsNeed is the ACL rule for writing the intentions of a destination.
func intentionsNeed(destination, policy string) string {
	return fmt.Sprintf("service %q { policy = \"read\" intentions = %q }", destination, policy)
}

// ListIntentions returns every destination's intentions, by destination, each
// with its version. Those about sources in peered clusters are left out.
func (c *Client) ListIntentions(ctx context.Context) ([]intentions.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	answer, meta, err := c.brief.ConfigEntries().List(api.ServiceIntentions, c.entryQuery(ctx))
	if err == nil {
		err = indexed(meta)
	}
	if err != nil {
		return nil, explain("list intentions", `service_prefix "" { policy = "read" intentions = "read" }`, err)
	}
	entries := make([]intentions.Entry, 0, len(answer))
	for _, item := range answer {
		entry, ok := item.(*api.ServiceIntentionsConfigEntry)
		if !ok {
			return nil, fmt.Errorf("list intentions: Consul answered a %s", item.GetKind())
		}
		if err := judgeEntry(entry, entry.Name); err != nil {
			return nil, fmt.Errorf("list intentions: %w", err)
		}
		entries = append(entries, entryOf(entry))
	}
	return entries, nil
}

// GetEntry returns the intentions of one destination; false means that there are
// none.
func (c *Client) GetEntry(ctx context.Context, destination string) (intentions.Entry, bool, error) {
	entry, err := c.readEntry(ctx, destination)
	if err != nil || entry == nil {
		return intentions.Entry{}, false, err
	}
	return entryOf(entry), true, nil
}

func (c *Client) readEntry(ctx context.Context, destination string) (*api.ServiceIntentionsConfigEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	answer, _, err := c.brief.ConfigEntries().Get(api.ServiceIntentions, destination, c.entryQuery(ctx))
	if isNoEntry(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain("read intentions to "+destination, intentionsNeed(destination, "read"), err)
	}
	entry, ok := answer.(*api.ServiceIntentionsConfigEntry)
	if !ok {
		return nil, fmt.Errorf("read intentions to %s: Consul answered a %s", destination, answer.GetKind())
	}
	if err := judgeEntry(entry, destination); err != nil {
		return nil, fmt.Errorf("read intentions to %s: %w", destination, err)
	}
	return entry, nil
}

// judgeEntry returns why an entry cannot be Consul's about destination.
func judgeEntry(entry *api.ServiceIntentionsConfigEntry, destination string) error {
	if entry.Name == "" || entry.Name != destination || entry.ModifyIndex == 0 {
		return errOther
	}
	return whole(entry.Sources)
}

func entryOf(entry *api.ServiceIntentionsConfigEntry) intentions.Entry {
	out := intentions.Entry{Destination: entry.Name, Version: entry.ModifyIndex}
	for _, source := range entry.Sources {
		if isForeign(source) {
			continue
		}
		rule := intentions.Rule{
			Source: source.Name, Destination: entry.Name,
			L7: len(source.Permissions) > 0, Description: source.Description,
		}
		if !rule.L7 {
			rule.Action = actionOf(source.Action)
		}
		out.Rules = append(out.Rules, rule)
	}
	return out
}

// isForeign reports whether a source is outside this cluster, which a Rule cannot
// say.
func isForeign(source *api.SourceIntention) bool {
	return source.Peer != "" || source.SamenessGroup != ""
}

// SetIntention writes one intention and leaves every other one of its destination
// alone, in one step on Consul's servers.
func (c *Client) SetIntention(ctx context.Context, rule intentions.Rule) error {
	attempt := "write intention " + rule.Edge()
	if rule.L7 || rule.Action != intentions.Allow && rule.Action != intentions.Deny {
		return fmt.Errorf("%s: the action must be allow or deny", attempt)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := c.brief.Connect().IntentionUpsert(&api.Intention{
		SourceName: rule.Source, DestinationName: rule.Destination, SourceType: api.IntentionSourceConsul,
		Action: api.IntentionAction(rule.Action), Description: rule.Description,
	}, c.entryWrite(ctx))
	return explain(attempt, intentionsNeed(rule.Destination, "write"), err)
}

// DeleteIntention deletes one intention; that it does not exist is no error.
func (c *Client) DeleteIntention(ctx context.Context, source, destination string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := c.brief.Connect().IntentionDeleteExact(source, destination, c.entryWrite(ctx))
	if isNotFound(err) {
		return nil
	}
	return explain("delete intention "+source+" -> "+destination, intentionsNeed(destination, "write"), err)
}

// ApplyEntry writes all intentions of one destination, if Consul still holds the
// version that the entry names (0: holds none), else it returns ErrConflict and
// changes nothing. What an Entry cannot say (the permissions of an L7 intention,
// sources in peered clusters, metadata) is taken over from that version.
func (c *Client) ApplyEntry(ctx context.Context, entry intentions.Entry) error {
	attempt := "write intentions to " + entry.Destination
	if len(entry.Rules) == 0 {
		return fmt.Errorf("%s: no rules; delete the entry instead", attempt)
	}
	current, err := c.readEntry(ctx, entry.Destination)
	if err != nil {
		return err
	}
	if versionOf(current) != entry.Version {
		return fmt.Errorf("%s: %w", attempt, ErrConflict)
	}
	next, err := mergeEntry(entry, current)
	if err != nil {
		return fmt.Errorf("%s: %w", attempt, err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	done, _, err := c.brief.ConfigEntries().CAS(next, entry.Version, c.entryWrite(ctx))
	if err != nil {
		return explain(attempt, intentionsNeed(entry.Destination, "write"), err)
	}
	if !done {
		return fmt.Errorf("%s: %w", attempt, ErrConflict)
	}
	return nil
}

func versionOf(entry *api.ServiceIntentionsConfigEntry) uint64 {
	if entry == nil {
		return 0
	}
	return entry.ModifyIndex
}

// mergeEntry returns what to write for entry, given what Consul holds (or nil).
func mergeEntry(entry intentions.Entry, current *api.ServiceIntentionsConfigEntry) (*api.ServiceIntentionsConfigEntry, error) {
	next := &api.ServiceIntentionsConfigEntry{Kind: api.ServiceIntentions, Name: entry.Destination}
	var held []*api.SourceIntention
	if current != nil {
		next.Meta, next.JWT, held = current.Meta, current.JWT, current.Sources
	}
	for _, rule := range entry.Rules {
		source := &api.SourceIntention{
			Name: rule.Source, Type: api.IntentionSourceConsul,
			Action: api.IntentionAction(rule.Action), Description: rule.Description,
		}
		if rule.L7 {
			i := slices.IndexFunc(held, func(s *api.SourceIntention) bool { return s.Name == rule.Source && !isForeign(s) })
			if i < 0 || len(held[i].Permissions) == 0 {
				return nil, errors.New("the HTTP permissions of " + rule.Edge() + " can only be written with: consul config write")
			}
			source.Action, source.Permissions = "", held[i].Permissions
		}
		next.Sources = append(next.Sources, source)
	}
	for _, source := range held {
		if isForeign(source) {
			next.Sources = append(next.Sources, source)
		}
	}
	return next, nil
}

// DeleteEntry deletes all intentions of one destination, if Consul still holds
// this version of them, else it returns ErrConflict and changes nothing. That
// there are none any more is no error.
func (c *Client) DeleteEntry(ctx context.Context, destination string, version uint64) error {
	attempt := "delete intentions to " + destination
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	done, _, err := c.brief.ConfigEntries().DeleteCAS(api.ServiceIntentions, destination, version, c.entryWrite(ctx))
	if err != nil {
		return explain(attempt, intentionsNeed(destination, "write"), err)
	}
	if !done {
		return fmt.Errorf("%s: %w", attempt, ErrConflict)
	}
	return nil
}

// Check asks Consul's servers, not the agent and not a snapshot, whether source
// may connect to destination now.
func (c *Client) Check(ctx context.Context, source, destination string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	allowed, _, err := c.brief.Connect().IntentionCheck(&api.IntentionCheck{
		Source: source, Destination: destination, SourceType: api.IntentionSourceConsul,
	}, query(ctx))
	return allowed, explain("check "+source+" -> "+destination, serviceRule(destination, "read"), err)
}

// entryQuery and entryWrite go to the datacenter that holds the config entries.
func (c *Client) entryQuery(ctx context.Context) *api.QueryOptions {
	options := query(ctx)
	options.Datacenter = c.cfg.Primary
	return options
}

func (c *Client) entryWrite(ctx context.Context) *api.WriteOptions {
	options := write(ctx)
	options.Datacenter = c.cfg.Primary
	return options
}
