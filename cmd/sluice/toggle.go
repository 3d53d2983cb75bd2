package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/intentions"
	"sluice/lab"
	"sluice/lab/control"
)

// pairs are the edges between the lab's services that a rule speaks about.
func pairs(source, destination string) [][2]string {
	expand := func(name string) []string {
		if name == intentions.Wildcard {
			return lab.ServiceNames()
		}
		return []string{name}
	}
	var all [][2]string
	for _, from := range expand(source) {
		for _, to := range expand(destination) {
			all = append(all, [2]string{from, to})
		}
	}
	return all
}

func newToggle(a *app, action intentions.Action) *cobra.Command {
	var dryRun bool
	var local, reason string
	effect := "new connections are let in"
	if action == intentions.Deny {
		effect = "new connections are refused, open ones are cut"
	}
	command := &cobra.Command{
		Use: string(action) + " SOURCE DESTINATION", Short: "At once: " + effect,
		Long:    "Write one intention and wait until every process that it concerns enforces it. The files stay as they are: `plan` shows the difference, `apply` undoes it.",
		Example: "  sluice intentions " + string(action) + " web mongo-primary",
		Args:    cobra.ExactArgs(2),
		RunE: func(command *cobra.Command, args []string) error {
			ctx, cancel := a.bounded(command.Context(), 20*time.Second)
			defer cancel()
			if err := knownServices(args); err != nil {
				return err
			}
			if local != "" {
				return a.breakGlass(ctx, local, intentions.Denial{Source: args[0], Destination: args[1], Reason: reason}, dryRun)
			}
			rule := intentions.Rule{Source: args[0], Destination: args[1], Action: action}
			return a.toggle(ctx, rule, dryRun)
		},
		ValidArgsFunction: completeServices,
	}
	command.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be written")
	if action == intentions.Deny {
		command.Long += `

--local DATACENTER is the break-glass for when the primary datacenter, where intentions
are written, is out of reach: the denial is kept in that datacenter alone, on top of the
intentions. It can only take permissions away, and holds until "lift".`
		command.Example += "\n  sluice intentions deny --local dc2 web mongo-primary --reason stolen-laptop"
		command.Flags().StringVar(&local, "local", "", "deny in this `datacenter` alone, without the primary one")
		command.Flags().StringVar(&reason, "reason", "", "why, for those who see it (with --local)")
	}
	return command
}

// toggleResult is the JSON form of allow and deny.
type toggleResult struct {
	Rule     intentions.Rule `json:"rule"`
	DryRun   bool            `json:"dry_run"`
	Enforced []string        `json:"enforced_by"`
	// Pending are the processes that have not confirmed it.
	Pending []lab.PendingProcess `json:"not_yet_by"`
	Seconds float64              `json:"seconds"`
	// Datacenters are the seconds of each datacenter, from when Consul had the rule.
	Datacenters map[string]float64 `json:"datacenters"`
	// Otherwise are the edges that the rule speaks about and does not decide: a
	// more exact one does.
	Otherwise []intentions.Decision `json:"still_decided_otherwise"`
}

func (a *app) toggle(ctx context.Context, rule intentions.Rule, dryRun bool) error {
	s, err := a.session(ctx, "")
	if err != nil {
		return err
	}
	live, err := s.consul.ListIntentions(ctx)
	if err != nil {
		return err
	}
	rules := intentions.Flatten(live)
	// The description says what the edge is for; a toggle does not change that.
	if i := slices.IndexFunc(rules, func(old intentions.Rule) bool { return old.Edge() == rule.Edge() }); i >= 0 {
		if rules[i].L7 {
			return fmt.Errorf("%s carries permissions on HTTP requests, which would be lost; change it by `sluice exec consul-1 -- consul config write` or delete it there first", rule.Edge())
		}
		rule.Description = rules[i].Description
		rules = slices.Delete(rules, i, i+1)
	}
	set := intentions.NewSet(append(rules, rule), intentions.Deny)
	result := toggleResult{Rule: rule, DryRun: dryRun, Enforced: []string{}, Pending: []lab.PendingProcess{}}
	if dryRun {
		a.say("would write: %s %s", rule.Edge(), rule.Action)
	} else {
		began := time.Now()
		var enforced enforcement
		if enforced, set, err = s.enforce(ctx, rule); err != nil && !enforced.written {
			return err
		}
		result.Enforced, result.Pending = enforced.by, append(result.Pending, enforced.pending...)
		result.Datacenters = enforced.places
		result.Seconds = time.Since(began).Seconds()
		switch {
		case s.alone:
			a.say("%s: %s, written to Consul", rule.Edge(), rule.Action)
		case err == nil:
			a.say("%s: %s, enforced by %s after %.0f ms%s", rule.Edge(), rule.Action, list(enforced.by), result.Seconds*1000, perDatacenter(enforced.places))
		}
	}
	result.Otherwise = otherwise(set, rule)
	a.sayOtherwise(result.Otherwise)
	if a.json() {
		err = errors.Join(err, a.print(result))
	}
	return err
}

// otherwise are the edges that the rule speaks about, and that are not decided as
// it says.
func otherwise(set intentions.Set, rule intentions.Rule) []intentions.Decision {
	decisions := []intentions.Decision{}
	for _, pair := range pairs(rule.Source, rule.Destination) {
		if d := set.Decide(pair[0], pair[1]); d.Allowed != (rule.Action == intentions.Allow) {
			decisions = append(decisions, d)
		}
	}
	return decisions
}

func (a *app) sayOtherwise(decisions []intentions.Decision) {
	if len(decisions) == 0 {
		return
	}
	var edges []string
	for _, d := range decisions {
		edges = append(edges, d.Source+" -> "+d.Destination)
	}
	a.say("still %s by a more exact rule: %s", word(decisions[0].Allowed), strings.Join(edges, ", "))
}

// enforcer waits until the processes of a lab decide an edge as wanted.
type enforcer interface {
	AwaitEnforced(context.Context, lab.EnforcedRequest) (lab.EnforcedResult, error)
}

// enforcement is what became of a rule that was to be written.
type enforcement struct {
	written bool
	by      []string
	pending []lab.PendingProcess
	// places are the seconds that each datacenter took.
	places map[string]float64
}

// perDatacenter says how long each datacenter took, where there is more than one.
func perDatacenter(places map[string]float64) string {
	if len(places) < 2 {
		return ""
	}
	var each []string
	for _, dc := range slices.Sorted(maps.Keys(places)) {
		each = append(each, fmt.Sprintf("%s %.0f ms", dc, 1000*places[dc]))
	}
	return " (" + strings.Join(each, ", ") + ")"
}

// enforce writes the rule and waits until everybody enforces what follows from it.
// The set is what Consul holds after that.
func (s *session) enforce(ctx context.Context, rule intentions.Rule) (enforcement, intentions.Set, error) {
	if err := s.consul.SetIntention(ctx, rule); err != nil {
		return enforcement{}, intentions.Set{}, err
	}
	live, err := s.consul.ListIntentions(ctx)
	if err != nil {
		return enforcement{}, intentions.Set{}, &control.Error{
			Message: "written to Consul; who enforces it is unknown: " + err.Error(), Code: exitInconclusive, Hint: "sluice status",
		}
	}
	set := intentions.NewSet(intentions.Flatten(live), intentions.Deny)
	done, err := s.await(ctx, set, pairs(rule.Source, rule.Destination))
	return done, set, err
}

// await waits until everybody decides the edges as set does. What a fault keeps
// from it is not waited for.
func (s *session) await(ctx context.Context, set intentions.Set, edges [][2]string) (enforcement, error) {
	done := enforcement{written: true, by: []string{}, places: map[string]float64{}}
	if s.alone {
		return done, nil
	}
	var cause error
	for _, edge := range edges {
		request := lab.EnforcedRequest{Source: edge[0], Destination: edge[1], Allowed: set.Decide(edge[0], edge[1]).Allowed}
		result, err := s.enforcer.AwaitEnforced(ctx, request)
		if err != nil {
			cause = err
			break
		}
		for dc, seconds := range result.Datacenters {
			done.places[dc] = max(done.places[dc], seconds)
		}
		done.by = append(done.by, result.Processes...)
		done.pending = append(done.pending, result.Pending...)
		// What is slow on one edge will be on the next: the first says enough.
		if slices.ContainsFunc(result.Pending, func(p lab.PendingProcess) bool { return !p.Faulty }) {
			break
		}
	}
	late := map[string]bool{}
	done.pending = slices.DeleteFunc(done.pending, func(p lab.PendingProcess) bool {
		seen := late[p.Process]
		late[p.Process] = true
		return seen
	})
	slices.Sort(done.by)
	done.by = slices.DeleteFunc(slices.Compact(done.by), func(name string) bool { return late[name] })
	return done, done.inconclusive(cause)
}

// inconclusive says that the rule is written, and who has not confirmed it; nil
// when everybody has.
func (e enforcement) inconclusive(cause error) error { return e.unheard("enforced by", cause) }

// unheard is inconclusive with other words for what those who have heard of it do.
func (e enforcement) unheard(done string, cause error) error {
	if len(e.pending) == 0 && cause == nil {
		return nil
	}
	failure := &control.Error{
		Message: "written to Consul; " + done + " " + list(e.by), Code: exitInconclusive, Hint: "sluice status",
	}
	var late, faulty []string
	for _, p := range e.pending {
		late = append(late, fmt.Sprintf("%s (%s)", p.Process, p.Reason))
		if node, _, _ := strings.Cut(p.Process, "/"); p.Faulty && !slices.Contains(faulty, node) {
			faulty = append(faulty, node)
		}
	}
	switch len(faulty) {
	case 0:
	case 1:
		failure.Hint = "sluice fault heal " + faulty[0]
	default:
		failure.Hint = "sluice fault heal --all"
	}
	if len(late) > 0 {
		failure.Message += "; not yet by " + strings.Join(late, ", ")
	}
	if cause != nil {
		failure.Message += "; the others are unknown: " + cause.Error()
	}
	return failure
}

func list(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}
