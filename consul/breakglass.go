package consul

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sluice/intentions"
)

// errNoBreakGlass means that the client was opened without Config.BreakGlass.
var errNoBreakGlass = errors.New("no key for break-glass denials is configured")

// overlayOf reads what is below the key.
func overlayOf(key string, entries []KVEntry) intentions.Overlay {
	list := make([]intentions.DenialEntry, 0, len(entries))
	for _, entry := range entries {
		if below, ok := strings.CutPrefix(entry.Key, key+"/"); ok {
			list = append(list, intentions.DenialEntry{Key: below, Value: entry.Value})
		}
	}
	return intentions.NewOverlay(list)
}

// Overlay returns the denials of the agent's own datacenter; none where no key for them
// is configured.
func (c *Client) Overlay(ctx context.Context) (intentions.Overlay, error) {
	key := c.cfg.BreakGlass
	if key == "" {
		return intentions.Overlay{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, verdictTimeout)
	defer cancel()
	pairs, meta, err := treeOf(c.brief, key+"/", query(ctx))
	if err == nil && meta.ResultsFilteredByACLs {
		err = explain("read keys of "+key, treeRule(key), errHidden())
	}
	if err != nil {
		return intentions.Overlay{}, fmt.Errorf("read the break-glass denials: %w", err)
	}
	entries := make([]KVEntry, len(pairs))
	for i, pair := range pairs {
		entries[i] = KVEntry{pair.Key, pair.Value}
	}
	return overlayOf(key, entries), nil
}

// Deny puts a denial on top of the intentions, in the agent's own datacenter alone. It
// needs the write of the key.
func (c *Client) Deny(ctx context.Context, d intentions.Denial) error {
	if c.cfg.BreakGlass == "" {
		return errNoBreakGlass
	}
	key, value, err := intentions.DenialKey(c.cfg.BreakGlass, d)
	if err != nil {
		return err
	}
	return c.KVPut(ctx, key, value)
}

// Lift takes a denial away; false means that there was none.
func (c *Client) Lift(ctx context.Context, d intentions.Denial) (bool, error) {
	if c.cfg.BreakGlass == "" {
		return false, errNoBreakGlass
	}
	key, _, err := intentions.DenialKey(c.cfg.BreakGlass, d)
	if err != nil {
		return false, err
	}
	if _, there, err := c.KVGet(ctx, key); err != nil || !there {
		return false, err
	}
	err = c.KVDelete(ctx, key)
	return err == nil, err
}
