package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sluice/intentions"
)

func newCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "check SOURCE DESTINATION", Short: "Exit code 0 allowed, 1 denied",
		Example: "  sluice intentions check web mongo-primary      # exit code 0 or 1",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: completeServices,
		RunE: func(command *cobra.Command, args []string) error {
			ctx, cancel := a.bounded(command.Context(), 15*time.Second)
			defer cancel()
			if err := knownServices(args); err != nil {
				return err
			}
			verdict, err := a.verdict(ctx, "", args[0], args[1])
			if err != nil {
				return err
			}
			if a.json() {
				if err := a.print(verdict); err != nil {
					return err
				}
			} else {
				fmt.Fprintln(a.std.out, verdict.Decision)
			}
			return verdict.exit()
		},
	}
}

func newWhy(a *app, dir *string) *cobra.Command {
	return &cobra.Command{
		Use: "why SOURCE DESTINATION", Short: "Which rule decides, where it is written, what Consul itself answers",
		Example: "  sluice intentions why gateway web\n  sluice intentions why web mongo-primary --dir intentions",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: completeServices,
		RunE: func(command *cobra.Command, args []string) error {
			ctx, cancel := a.bounded(command.Context(), 15*time.Second)
			defer cancel()
			if err := knownServices(args); err != nil {
				return err
			}
			verdict, err := a.verdict(ctx, *dir, args[0], args[1])
			if err != nil {
				return err
			}
			if a.json() {
				if err := a.print(verdict); err != nil {
					return err
				}
				return verdict.exit()
			}
			fmt.Fprintln(a.std.out, verdict.Explanation)
			if verdict.Drift != "" {
				fmt.Fprintln(a.std.out, "  but", a.std.proposal(verdict.Drift))
			}
			for _, local := range verdict.BreakGlass {
				fmt.Fprintf(a.std.out, "  in %s it is denied all the same: %s\n", local.Datacenter, local.Denial)
			}
			fmt.Fprintln(a.std.out, "  Consul itself answers:", word(verdict.Consul)+";", agreement(verdict.Agree))
			return verdict.exit()
		},
	}
}

// verdict is what we decide about an edge, why, and what Consul answers.
type verdict struct {
	intentions.Explanation
	Consul bool `json:"consul_allowed"`
	Agree  bool `json:"agree"`
	// Drift says how the files differ from Consul on this edge.
	Drift string `json:"drift,omitempty"`
	// BreakGlass are the datacenters that deny the edge by themselves, whatever the
	// intentions say.
	BreakGlass []localDenial `json:"break_glass,omitempty"`
}

// exit is 0 allowed, 1 denied, 3 when we and Consul disagree.
func (v verdict) exit() error {
	switch {
	case !v.Agree:
		return &codeError{exitInconclusive, errors.New("our verdict and Consul's differ; Consul may be catching up, ask again")}
	case !v.Decision.Allowed:
		return no()
	default:
		return nil
	}
}

func word(allowed bool) string {
	if allowed {
		return "allowed"
	}
	return "denied"
}

func agreement(agree bool) string {
	if agree {
		return "we agree"
	}
	return "WE DISAGREE"
}

func (a *app) verdict(ctx context.Context, dir, source, destination string) (verdict, error) {
	s, err := a.session(ctx, dir)
	if err != nil {
		return verdict{}, err
	}
	// Files that cannot be read only cost the position and the drift, unless they
	// were asked for.
	files, loadErr := intentions.Load(s.dir)
	if loadErr != nil && dir != "" {
		return verdict{}, loadErr
	}
	if loadErr != nil {
		a.say("note: %v", loadErr)
	}
	live, err := s.consul.ListIntentions(ctx)
	if err != nil {
		return verdict{}, err
	}
	written := intentions.NewSet(intentions.Flatten(files), intentions.Deny)
	set := intentions.NewSet(positioned(intentions.Flatten(live), written.Rules()), intentions.Deny)
	answer, err := s.consul.Check(ctx, source, destination)
	if err != nil {
		return verdict{}, err
	}
	result := verdict{Explanation: intentions.Explain(set, source, destination), Consul: answer}
	for _, local := range s.denials(ctx) {
		if local.Denial.Matches(source, destination) {
			result.BreakGlass = append(result.BreakGlass, local)
		}
	}
	result.Agree = answer == result.Decision.Allowed
	if byFiles := written.Decide(source, destination); loadErr == nil && len(files) > 0 && byFiles.Allowed != result.Decision.Allowed {
		result.Drift = "the files say otherwise: " + byFiles.String() + " (see `sluice intentions plan`)"
	}
	return result, nil
}

// positioned gives each rule of Consul the place where the files write the same
// rule.
func positioned(rules, written []intentions.Rule) []intentions.Rule {
	for i := range rules {
		for _, other := range written {
			if other.Edge() == rules[i].Edge() && other.Action == rules[i].Action && other.L7 == rules[i].L7 {
				rules[i].Position = other.Position
			}
		}
	}
	return rules
}
