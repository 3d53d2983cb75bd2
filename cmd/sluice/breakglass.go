package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"sluice/consul"
	"sluice/intentions"
	"sluice/lab"
)

// breakGlassResult is the JSON form of deny --local and of lift.
type breakGlassResult struct {
	Datacenter string               `json:"datacenter"`
	Denial     intentions.Denial    `json:"denial"`
	DryRun     bool                 `json:"dry_run"`
	Enforced   []string             `json:"enforced_by"`
	Pending    []lab.PendingProcess `json:"not_yet_by"`
	Seconds    float64              `json:"seconds"`
}

// breakGlass denies an edge in one datacenter, and waits until that holds there.
func (a *app) breakGlass(ctx context.Context, datacenter string, denial intentions.Denial, dryRun bool) error {
	denial.By, denial.At = operatorName(), time.Now().UTC().Truncate(time.Second)
	result := breakGlassResult{Datacenter: datacenter, Denial: denial, DryRun: dryRun, Enforced: []string{}, Pending: []lab.PendingProcess{}}
	if dryRun {
		a.say("would deny in %s: %s", datacenter, denial)
		return a.printIfJSON(result)
	}
	client, opened, err := a.openBreakGlass(datacenter)
	if err != nil {
		return err
	}
	defer opened.Close()
	began := time.Now()
	if err := opened.Deny(ctx, denial); err != nil {
		return err
	}
	err = a.awaitBreakGlass(ctx, client, &result, false, began)
	if err == nil {
		a.say("%s in %s: deny by break-glass, enforced by %s after %.0f ms; it holds until: sluice intentions lift --local %s %s %s",
			denial.Edge(), datacenter, list(result.Enforced), 1000*result.Seconds, datacenter, denial.Source, denial.Destination)
	}
	return errors.Join(err, a.printIfJSON(result))
}

// openBreakGlass returns the lab and the Consul of a datacenter, as the one who may deny
// there by himself.
func (a *app) openBreakGlass(datacenter string) (*lab.Client, *consul.Client, error) {
	client, err := a.client()
	if err != nil {
		return nil, nil, err
	}
	opened, err := client.BreakGlass(datacenter)
	return client, opened, err
}

// awaitBreakGlass waits until every edge of the denial is decided as wanted.
func (a *app) awaitBreakGlass(ctx context.Context, client *lab.Client, result *breakGlassResult, allowed bool, began time.Time) error {
	for _, pair := range pairs(result.Denial.Source, result.Denial.Destination) {
		enforced, err := client.AwaitEnforced(ctx, lab.EnforcedRequest{Source: pair[0], Destination: pair[1], Allowed: allowed, Datacenter: result.Datacenter})
		if err != nil {
			return err
		}
		for _, process := range enforced.Processes {
			result.Enforced = appendNew(result.Enforced, process)
		}
		result.Pending = append(result.Pending, enforced.Pending...)
	}
	result.Seconds = time.Since(began).Seconds()
	if len(result.Pending) > 0 {
		a.sayPending(result.Pending)
		return &codeError{exitInconclusive, errors.New("not everybody is known to enforce it")}
	}
	return nil
}

func (a *app) sayPending(pending []lab.PendingProcess) {
	for _, p := range pending {
		a.say("  not yet by %s: %s", p.Process, p.Reason)
	}
}

func appendNew(list []string, text string) []string {
	for _, known := range list {
		if known == text {
			return list
		}
	}
	return append(list, text)
}

// operatorName is who is at the terminal, for those who see a denial.
func operatorName() string {
	if me, err := user.Current(); err == nil {
		return me.Username
	}
	return cmp.Or(os.Getenv("USER"), "somebody")
}

func (a *app) printIfJSON(value any) error {
	if a.json() {
		return a.print(value)
	}
	return nil
}

func newLift(a *app) *cobra.Command {
	var local string
	command := &cobra.Command{
		Use:   "lift --local DATACENTER SOURCE DESTINATION",
		Short: "Take a break-glass denial back; the intentions decide again",
		Long: `Take back what "deny --local" has denied in a datacenter. It allows nothing by that:
the intentions decide again. Exit code 1 when there was no such denial.`,
		Example:           "  sluice intentions lift --local dc2 web mongo-primary",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeServices,
		RunE: func(command *cobra.Command, args []string) error {
			ctx, cancel := a.bounded(command.Context(), 20*time.Second)
			defer cancel()
			return a.lift(ctx, local, intentions.Denial{Source: args[0], Destination: args[1]})
		},
	}
	command.Flags().StringVar(&local, "local", "", "the `datacenter` that denies")
	_ = command.MarkFlagRequired("local")
	return command
}

func (a *app) lift(ctx context.Context, datacenter string, denial intentions.Denial) error {
	client, opened, err := a.openBreakGlass(datacenter)
	if err != nil {
		return err
	}
	defer opened.Close()
	there, err := opened.Lift(ctx, denial)
	if err != nil {
		return err
	}
	if !there {
		return &codeError{exitNo, errors.New(datacenter + " does not deny " + denial.Edge() + " by itself")}
	}
	if err := awaitLifted(ctx, client, datacenter, denial); err != nil {
		return &codeError{exitInconclusive, fmt.Errorf("lifted, and not every process is known to have heard it: %w", err)}
	}
	a.say("%s: %s no longer denies it by itself; the intentions decide", denial.Edge(), datacenter)
	return a.printIfJSON(breakGlassResult{Datacenter: datacenter, Denial: denial, Enforced: []string{}, Pending: []lab.PendingProcess{}})
}

// awaitLifted waits until no process of the datacenter enforces the denial.
func awaitLifted(ctx context.Context, client *lab.Client, datacenter string, denial intentions.Denial) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		status, err := client.Status(ctx)
		if err != nil {
			return err
		}
		held := false
		for _, dc := range status.Datacenters {
			for _, other := range dc.Denials {
				held = held || dc.Name == datacenter && other.Edge() == denial.Edge()
			}
		}
		if !held {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// localDenial is a denial of one datacenter.
type localDenial struct {
	Datacenter string            `json:"datacenter"`
	Denial     intentions.Denial `json:"denial"`
}

// denials are what the datacenters deny by themselves, as their processes enforce it.
func (s *session) denials(ctx context.Context) []localDenial {
	status, err := s.lab.Status(ctx)
	if err != nil {
		return nil // what Consul says is told all the same
	}
	var all []localDenial
	for _, dc := range status.Datacenters {
		for _, denial := range dc.Denials {
			all = append(all, localDenial{dc.Name, denial})
		}
	}
	return all
}
