package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"sluice/consul"
	"sluice/lab"
	"sluice/lab/control"
	"sluice/web/settings"
)

// webSession is a connection to the Consul of one datacenter, as the operator.
type webSession struct {
	lab        *lab.Client
	consul     *consul.Client
	datacenter string
	// alone says that there is no supervisor that asks web: in a container.
	alone bool
}

// webSession opens a datacenter's Consul, the primary one's if it is empty. Close its
// consul.
func (a *app) webSession(ctx context.Context, datacenter string) (*webSession, error) {
	client, options, alone, err := a.running(ctx)
	if err != nil {
		return nil, err
	}
	var known []string
	for _, host := range options.Hosts {
		if !slices.Contains(known, host.Datacenter) {
			known = append(known, host.Datacenter) // the primary one first
		}
	}
	switch {
	case datacenter == "" && len(known) > 0:
		datacenter = known[0]
	case !slices.Contains(known, datacenter):
		return nil, &control.Error{Message: fmt.Sprintf("no datacenter %q; there are %s", datacenter, strings.Join(known, ", ")), Code: exitFailed, Hint: "sluice status"}
	}
	opened, err := client.ConsulOf(datacenter)
	if err != nil {
		return nil, err
	}
	return &webSession{lab: client, consul: opened, datacenter: datacenter, alone: alone}, nil
}

// heldSetting is one key as Consul holds it.
type heldSetting struct {
	Key string `json:"key"`
	// Written is what Consul holds; nil where the key is not set.
	Written *string `json:"in_consul"`
	// Valid says that web takes it, or that there is nothing; Why, why it does not.
	Valid   bool   `json:"valid"`
	Why     string `json:"why,omitempty"`
	Default string `json:"default"`
	Meaning string `json:"meaning"`
	Takes   string `json:"takes"`
}

func (h heldSetting) shown() string {
	if h.Written == nil {
		return "-"
	}
	return orEmpty(printable(*h.Written))
}

func (h heldSetting) verdict() string {
	switch {
	case h.Written == nil:
		return "-"
	case h.Valid:
		return "yes"
	default:
		return "no: " + h.Why
	}
}

func orEmpty(text string) string {
	if text == "" {
		return "empty"
	}
	return text
}

// held returns every key that web knows, and after them those below its prefix that
// mean nothing to it.
func (s *webSession) held(ctx context.Context) ([]heldSetting, error) {
	entries, _, err := s.consul.KVTree(ctx, settings.Prefix)
	if err != nil {
		return nil, err
	}
	return judgeSettings(entries), nil
}

// heldKey is held for one key.
func (s *webSession) heldKey(ctx context.Context, name string) (heldSetting, error) {
	held, err := s.held(ctx)
	if err != nil {
		return heldSetting{}, err
	}
	at := slices.IndexFunc(held, func(h heldSetting) bool { return h.Key == name })
	return held[at], nil
}

func judgeSettings(entries []consul.KVEntry) []heldSetting {
	written := map[string][]byte{}
	for _, entry := range entries {
		written[entry.Key] = entry.Value
	}
	var held []heldSetting
	for _, key := range settings.Known() {
		h := heldSetting{Key: key.Name, Valid: true, Default: key.Default, Meaning: key.Meaning, Takes: key.Takes}
		if value, there := written[key.Name]; there {
			text := string(value)
			h.Written = &text
			if _, err := settings.Judge(key.Name, value); err != nil {
				h.Valid, h.Why = false, err.Error()
			}
		}
		delete(written, key.Name)
		held = append(held, h)
	}
	for _, entry := range entries {
		if _, left := written[entry.Key]; left && entry.Key != settings.Prefix {
			text := string(entry.Value)
			held = append(held, heldSetting{Key: entry.Key, Written: &text, Why: "web knows no such key"})
		}
	}
	return held
}

// settingChange is a value to write, or a key to take away.
type settingChange struct {
	key string
	// value is nil to take the key away.
	value *string
	// inForce is what web shows once it runs with it.
	inForce string
	dryRun  bool
}

func (c settingChange) String() string {
	if c.value == nil {
		return c.key + " is not set, so " + orEmpty(c.inForce)
	}
	return c.key + " is " + orEmpty(printable(*c.value))
}

// settingResult is the JSON form of set and unset.
type settingResult struct {
	Datacenter string  `json:"datacenter"`
	Key        string  `json:"key"`
	Before     *string `json:"before"`
	Written    *string `json:"in_consul"`
	InForce    string  `json:"in_force"`
	DryRun     bool    `json:"dry_run"`
	// Index is Consul's index after the write; 0 where nothing was written.
	Index uint64 `json:"index"`
	// RunningWith are the processes that say so; Pending those that do not.
	RunningWith []string             `json:"running_with"`
	Pending     []lab.PendingProcess `json:"not_yet_by"`
	Seconds     float64              `json:"seconds"`
}

// told says what has become of a change, in one line.
func (r settingResult) told(change settingChange, alone bool) string {
	text := fmt.Sprintf("%s in %s", change, r.Datacenter)
	if r.Index > 0 {
		text += fmt.Sprintf(", at Consul's index %d", r.Index)
	}
	switch {
	case alone:
		return text + "; who runs with it is not asked from here"
	case len(r.RunningWith) == 0:
		return text + "; no web runs there that could take it over"
	case len(r.RunningWith) == 1:
		return fmt.Sprintf("%s; %s runs with it after %.0f ms", text, r.RunningWith[0], 1000*r.Seconds)
	default:
		return fmt.Sprintf("%s; %s run with it after %.0f ms", text, list(r.RunningWith), 1000*r.Seconds)
	}
}

// changeSetting writes a change and waits until every web runs with it.
func (a *app) changeSetting(command *cobra.Command, datacenter string, change settingChange) error {
	ctx, cancel := a.bounded(command.Context(), 20*time.Second)
	defer cancel()
	s, err := a.webSession(ctx, datacenter)
	if err != nil {
		return err
	}
	defer s.consul.Close()
	before, err := s.heldKey(ctx, change.key)
	if err != nil {
		return err
	}
	result := settingResult{
		Datacenter: s.datacenter, Key: change.key, Before: before.Written, Written: change.value, InForce: change.inForce,
		DryRun: change.dryRun, RunningWith: []string{}, Pending: []lab.PendingProcess{},
	}
	if change.dryRun {
		a.say("would be, in %s: %s; now %s", s.datacenter, change, before.shown())
		return a.printIfJSON(result)
	}
	began := time.Now()
	if result.Index, err = s.write(ctx, change, before.Written != nil); err != nil {
		return err
	}
	err = s.await(ctx, change, &result)
	result.Seconds = time.Since(began).Seconds()
	if err == nil {
		a.say("%s", result.told(change, s.alone))
	}
	return errors.Join(err, a.printIfJSON(result))
}

// write writes the change and returns Consul's index after it. A key that is not there
// needs no deletion, and no index tells of it.
func (s *webSession) write(ctx context.Context, change settingChange, there bool) (uint64, error) {
	var err error
	switch {
	case change.value != nil:
		err = s.consul.KVPut(ctx, change.key, []byte(*change.value))
	case there:
		err = s.consul.KVDelete(ctx, change.key)
	default:
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	_, index, err := s.consul.KVTree(ctx, settings.Prefix)
	if err != nil {
		return 0, &control.Error{Message: "written to Consul; who runs with it is unknown: " + err.Error(), Code: exitInconclusive, Hint: "sluice status"}
	}
	return index, nil
}

// await waits until every web of the datacenter runs with the change.
func (s *webSession) await(ctx context.Context, change settingChange, result *settingResult) error {
	if s.alone {
		return nil
	}
	seen, err := s.lab.AwaitSetting(ctx, lab.SettingRequest{Datacenter: s.datacenter, Key: change.key, Value: change.inForce, Index: result.Index})
	result.RunningWith, result.Pending = append(result.RunningWith, seen.Processes...), append(result.Pending, seen.Pending...)
	return enforcement{by: result.RunningWith, pending: result.Pending}.unheard("taken over by", err)
}

// printable replaces what could command a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
