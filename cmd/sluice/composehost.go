package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice/intentions"
	"sluice/lab"
)

// composeTimeout is how long docker may take for what a command asks of it.
const composeTimeout = time.Minute

// inContainers gives a command, and those below it, the flag --engine: with compose
// they do what instead does.
func (a *app) inContainers(command *cobra.Command, instead func(*cobra.Command, []string) error) *cobra.Command {
	command.PersistentFlags().StringVar(&a.engine, "engine", "", "compose for a lab in containers; empty for that of sluice up")
	var wrap func(*cobra.Command)
	wrap = func(leaf *cobra.Command) {
		for _, below := range leaf.Commands() {
			wrap(below)
		}
		run := leaf.RunE
		if leaf.HasSubCommands() || run == nil {
			return
		}
		leaf.RunE = func(called *cobra.Command, args []string) error {
			switch a.engine {
			case "":
				return run(called, args)
			case "compose":
				return instead(called, args)
			default:
				return &usageError{called.CommandPath(), fmt.Errorf("--engine %s: want compose, or nothing", a.engine)}
			}
		}
	}
	wrap(command)
	return command
}

// composeLab opens the lab in containers; close it.
func (a *app) composeLab(ctx context.Context) (*lab.ComposeLab, error) {
	return lab.OpenComposeLab(ctx, lab.DefaultTopology("."))
}

// composeStatus shows the containers and what is in them.
func (a *app) composeStatus(command *cobra.Command, _ []string) error {
	watch, err := command.Flags().GetBool("watch")
	if err != nil {
		return err
	}
	show := func(ctx context.Context) error {
		ctx, cancel := a.bounded(ctx, composeTimeout)
		defer cancel()
		opened, err := a.composeLab(ctx)
		if err != nil {
			return err
		}
		defer opened.Close()
		status, err := opened.Status(ctx)
		switch {
		case err != nil:
			return err
		case a.json():
			return a.print(status)
		default:
			return printStatus(a.std.out, status)
		}
	}
	if watch && !a.json() {
		return a.repeat(command.Context(), show)
	}
	return show(command.Context())
}

// forwarding is a command as the operator's container is told it.
func forwarding(command *cobra.Command, args []string) []string {
	forwarded := strings.Fields(command.CommandPath())[1:]
	command.Flags().Visit(func(flag *pflag.Flag) {
		if flag.Name != "engine" && flag.Name != "state" {
			forwarded = append(forwarded, "--"+flag.Name+"="+flag.Value.String())
		}
	})
	return append(append(forwarded, "--"), args...)
}

// composeForwarded runs the same command in the operator's container.
func (a *app) composeForwarded(command *cobra.Command, args []string) error {
	ctx, cancel := a.bounded(command.Context(), composeTimeout)
	defer cancel()
	opened, err := a.composeLab(ctx)
	if err != nil {
		return err
	}
	defer opened.Close()
	code, err := opened.Sluice(ctx, [3]*os.File{a.std.in, a.std.out, a.std.err}, forwarding(command, args)...)
	if err != nil || code == exitOK {
		return err
	}
	return &codeError{code: code}
}

// composeIntentions runs the same command in the operator's container. After one that
// writes, it waits until every process enforces what was written.
func (a *app) composeIntentions(command *cobra.Command, args []string) error {
	ctx, cancel := a.bounded(command.Context(), composeTimeout)
	defer cancel()
	opened, err := a.composeLab(ctx)
	if err != nil {
		return err
	}
	defer opened.Close()
	forwarded := forwarding(command, args)
	dry, local := false, false
	command.Flags().Visit(func(flag *pflag.Flag) {
		dry = dry || flag.Name == "dry-run" && flag.Value.String() == "true"
		local = local || flag.Name == "local"
	})
	action := intentions.Action(command.Name())
	if toggles := action == intentions.Allow || action == intentions.Deny; toggles && !dry && !local {
		return a.composeToggle(ctx, opened, intentions.Rule{Source: args[0], Destination: args[1], Action: action}, forwarded)
	}
	code, err := opened.Sluice(ctx, [3]*os.File{a.std.in, a.std.out, a.std.err}, forwarded...)
	if err == nil && code == exitOK && command.Name() == "apply" && !dry {
		err = a.composeApplied(ctx, opened)
	}
	if err != nil || code == exitOK {
		return err
	}
	return &codeError{code: code}
}

// composeToggle writes a rule through the operator, and waits for it.
func (a *app) composeToggle(ctx context.Context, opened *lab.ComposeLab, rule intentions.Rule, forwarded []string) error {
	if err := knownServices([]string{rule.Source, rule.Destination}); err != nil {
		return err
	}
	said, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer said.Close()
	began := time.Now()
	if !a.json() {
		forwarded = append([]string{"--output=json"}, forwarded...)
	}
	code, err := opened.Sluice(ctx, [3]*os.File{a.std.in, write, a.std.err}, forwarded...)
	if err := errors.Join(err, write.Close()); err != nil {
		return err
	}
	if code != exitOK {
		return &codeError{code: code}
	}
	var result toggleResult
	if err := json.NewDecoder(said).Decode(&result); err != nil {
		return fmt.Errorf("written to Consul; read what the operator's container said: %w", err)
	}
	enforced, err := a.composeEnforced(ctx, opened, pairs(rule.Source, rule.Destination))
	result.Enforced, result.Pending, result.Datacenters = enforced.by, append([]lab.PendingProcess{}, enforced.pending...), enforced.places
	result.Seconds = time.Since(began).Seconds()
	if err == nil {
		a.say("%s: %s, enforced by %s after %.0f ms, most of them docker's%s", rule.Edge(), rule.Action, list(enforced.by), result.Seconds*1000, perDatacenter(enforced.places))
	}
	if a.json() {
		err = errors.Join(err, a.print(result))
	}
	return err
}

// composeApplied waits until every edge is decided as Consul has it.
func (a *app) composeApplied(ctx context.Context, opened *lab.ComposeLab) error {
	enforced, err := a.composeEnforced(ctx, opened, pairs(intentions.Wildcard, intentions.Wildcard))
	if err == nil {
		a.say("enforced by %s", list(enforced.by))
	}
	return err
}

// composeEnforced waits until everybody decides edges as Consul's intentions do.
func (a *app) composeEnforced(ctx context.Context, opened *lab.ComposeLab, edges [][2]string) (enforcement, error) {
	rules, err := opened.Rules(ctx)
	if err != nil {
		return enforcement{}, fmt.Errorf("written to Consul; who enforces it is unknown: %w", err)
	}
	return (&session{enforcer: opened}).await(ctx, intentions.NewSet(rules, intentions.Deny), edges)
}

// composeFault makes or heals a fault by docker.
func (a *app) composeFault(command *cobra.Command, args []string) error {
	ctx, cancel := a.bounded(command.Context(), composeTimeout)
	defer cancel()
	opened, err := a.composeLab(ctx)
	if err != nil {
		return err
	}
	defer opened.Close()
	request := lab.FaultRequest{Action: lab.FaultAction(command.Name())}
	if len(args) > 0 {
		request.Target = args[0]
	}
	if request.DryRun, err = command.Flags().GetBool("dry-run"); err != nil {
		return err
	}
	result, err := opened.Fault(ctx, request)
	if a.json() && err == nil {
		return a.print(result)
	}
	for _, line := range result.Planned {
		a.say("dry run: %s", line)
	}
	for _, line := range result.Done {
		a.say("%s", line)
	}
	return err
}
