package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice/lab"
	"sluice/lab/control"
)

func newUp(a *app) *cobra.Command {
	var config lab.UpConfig
	var directory string
	command := &cobra.Command{
		Use:   "up",
		Short: "Start the lab and wait until a request has really crossed every edge",
		Long: `Start the lab and wait until a request has really crossed every edge that the
intentions allow. Says how long each step took, which pages can be opened and how
much memory the lab uses. A lab that runs already is left alone.`,
		Example: `  sluice up
  sluice up --engine loopback
  sluice up --profile stock        # MongoDB's own times, and no help at an election
  sluice up --port-offset 100      # a second lab beside one in another folder`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config.State, config.Timeout = a.state, a.timeout
			if config.IntentionsDir == "" {
				config.IntentionsDir = filepath.Join(directory, "intentions")
			}
			if len(config.Topology) == 0 {
				config.Topology = lab.DefaultTopology(directory)
			}
			return a.up(command.Context(), config)
		},
	}
	flags := command.Flags()
	flags.StringVar(&config.Engine, "engine", "auto", "where nodes run: auto, netns or loopback")
	flags.StringVar(&config.Profile, "profile", "", "the replica set's times: fast or stock (default fast, or what the kept state has)")
	flags.IntVar(&config.PortOffset, "port-offset", 0, "added to every port on the host")
	flags.StringVar(&directory, "dir", ".", "the project's folder: datacenters/ and intentions/ are below it")
	flags.StringSliceVar(&config.Topology, "topology", nil, "datacenter files (default datacenters/dc1.hcl and dc2.hcl below --dir)")
	flags.StringVar(&config.IntentionsDir, "intentions", "", "folder of intention files (default intentions below --dir)")
	flags.BoolVar(&config.Second, "dc2", false, "also start the second datacenter; adds it to a lab that runs")
	return command
}

func (a *app) up(ctx context.Context, config lab.UpConfig) error {
	config.Notice = func(text string) { a.say("note: %s", text) }
	config.OnEvent = a.progress()
	started, err := lab.Up(ctx, config)
	if err != nil {
		return err
	}
	if started.Already {
		a.say("the lab is already running (since %s, engine %s)", started.Options.Started.Format(time.TimeOnly), started.Options.Engine)
	}
	if a.json() {
		return a.print(started)
	}
	a.printSummary(started)
	return nil
}

// progress shows a line per step: on a terminal the running one is rewritten in
// place.
func (a *app) progress() func(lab.Event) {
	inPlace := color(a.std.err)
	return func(event lab.Event) {
		switch event.State {
		case lab.StepBegan:
			if inPlace {
				fmt.Fprintf(a.std.err, "  ... %s", event.Step)
			}
		case lab.StepEnded:
			if inPlace {
				fmt.Fprint(a.std.err, "\r\x1b[K")
			}
			fmt.Fprintf(a.std.err, "  ok  %-38s %5.1f s\n", event.Step, event.Seconds)
		case lab.LabNotice:
			if inPlace {
				fmt.Fprint(a.std.err, "\r\x1b[K")
			}
			a.say("  note: %s", event.Notice)
		case lab.StepFailed, lab.LabReady:
			if inPlace {
				fmt.Fprintln(a.std.err)
			}
		}
	}
}

func (a *app) printSummary(started lab.Started) {
	summary := started.Summary
	fmt.Fprintf(a.std.out, "\nThe lab is up: %.1f s, engine %s, %.0f MB of memory\n", summary.Seconds, started.Options.Engine, summary.MemoryMB)
	columns := tabwriter.NewWriter(a.std.out, 0, 0, 2, ' ', 0)
	for _, url := range summary.URLs {
		fmt.Fprintf(columns, "  %s\t%s\n", url.Name, url.URL)
	}
	fmt.Fprintf(columns, "  token for it\tin %s\n", relative(summary.UIToken))
	printAdmin(columns, started)
	_ = columns.Flush()
	fmt.Fprintf(a.std.out, "\nTry:\n  curl %s\n", summary.URLs[0].URL)
	for _, command := range []string{
		"sluice intentions deny web mongo-primary     then reload the page",
		"sluice intentions allow web mongo-primary",
		"sluice status",
	} {
		fmt.Fprintln(a.std.out, " ", a.std.proposal(command))
	}
}

// printAdmin says how to log in to the blog. The password itself is shown by the
// "up" that has made it, and by no other.
func printAdmin(columns io.Writer, started lab.Started) {
	summary := started.Summary
	fmt.Fprintf(columns, "  blog admin\t%s/admin as admin, password in %s\n", summary.URLs[0].URL, relative(summary.AdminPassword))
	if !summary.NewAdmin || started.Already {
		return
	}
	if password, err := os.ReadFile(summary.AdminPassword); err == nil {
		fmt.Fprintf(columns, "  password\t%s (shown this once)\n", strings.TrimSpace(string(password)))
	}
}

func newDown(a *app) *cobra.Command {
	var purge, dryRun, second bool
	command := &cobra.Command{
		Use:   "down",
		Short: "Stop everything",
		Long:  "Stop every process of the lab. What it wrote stays for the next `up`, unless --purge.",
		Example: `  sluice down
  sluice down --purge      # also delete data, keys, tokens and logs
  sluice down --dc2        # only the second datacenter; dc1 goes on
  sluice down --purge --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, cancel := a.bounded(command.Context(), time.Minute)
			defer cancel()
			if second {
				return a.downSecond(ctx, purge, dryRun)
			}
			if dryRun {
				return a.planDown(ctx, purge)
			}
			running, err := lab.Down(ctx, a.state, purge)
			if err != nil {
				return &codeError{exitFailed, err}
			}
			if a.json() {
				return a.print(map[string]bool{"was_running": running, "purged": purge})
			}
			switch {
			case running && purge:
				a.say("the lab is down, and its state is deleted")
			case running:
				a.say("the lab is down; its state is kept in %s", relative(a.state))
			case purge:
				a.say("no lab was running; its state is deleted")
			default:
				a.say("no lab was running")
			}
			return nil
		},
	}
	command.Flags().BoolVar(&purge, "purge", false, "also delete the state folder")
	command.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be stopped and deleted")
	command.Flags().BoolVar(&second, "dc2", false, "only the datacenters besides the primary one: out of the replica set, out of the federation, stopped")
	command.Flags().Bool("yes", false, "for scripts that always say so; nothing is asked in any case")
	return command
}

// downSecond takes every datacenter but the primary one out of the lab.
func (a *app) downSecond(ctx context.Context, purge, dryRun bool) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	gone := []string{}
	for _, dc := range status.Datacenters {
		if dc.Primary {
			continue
		}
		gone = append(gone, dc.Name)
		if dryRun {
			continue
		}
		if err := client.Reduce(ctx, lab.ReduceRequest{Datacenter: dc.Name, Purge: purge}, a.progress()); err != nil {
			return &codeError{exitFailed, err}
		}
	}
	switch {
	case a.json():
		return a.print(map[string]any{"datacenters": gone, "dry_run": dryRun, "purged": purge})
	case len(gone) == 0:
		a.say("no second datacenter was running")
	case dryRun:
		a.say("dry run: would take %s out of the lab", strings.Join(gone, ", "))
	default:
		a.say("%s is down; the rest goes on", strings.Join(gone, ", "))
	}
	return nil
}

// downPlan is the JSON form of down --dry-run.
type downPlan struct {
	DryRun    bool     `json:"dry_run"`
	Running   bool     `json:"running"`
	Processes []string `json:"processes"`
	// Deletes is the folder that would be deleted.
	Deletes string `json:"deletes,omitempty"`
}

// planDown says what down would do.
func (a *app) planDown(ctx context.Context, purge bool) error {
	plan := downPlan{DryRun: true, Processes: []string{}}
	client, err := a.client()
	if err != nil {
		return err
	}
	refs, err := client.Processes(ctx)
	if err != nil && !errors.Is(err, control.ErrNotRunning) {
		return err
	}
	plan.Running = err == nil
	for _, ref := range refs {
		plan.Processes = append(plan.Processes, label(ref))
	}
	if _, err := os.Stat(a.state); err == nil && purge {
		if err := client.Purgeable(); err != nil {
			return fmt.Errorf("%s would not be deleted: %w", a.state, err)
		}
		plan.Deletes = a.state
	}
	if a.json() {
		return a.print(plan)
	}
	if plan.Running {
		a.say("dry run: would stop %s", strings.Join(append(plan.Processes, "the supervisor"), ", "))
	} else {
		a.say("no lab is running")
	}
	if plan.Deletes != "" {
		a.say("dry run: would delete %s", relative(plan.Deletes))
	}
	return nil
}
