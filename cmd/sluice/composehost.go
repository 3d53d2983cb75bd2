package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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

// composeStatus shows the containers.
func (a *app) composeStatus(command *cobra.Command, _ []string) error {
	ctx, cancel := a.bounded(command.Context(), composeTimeout)
	defer cancel()
	opened, err := lab.OpenComposeLab(ctx, lab.DefaultTopology("."))
	if err != nil {
		return err
	}
	containers, err := opened.Containers(ctx)
	if err != nil {
		return err
	}
	if a.json() {
		return a.print(containers)
	}
	table := tabwriter.NewWriter(a.std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NODE\tPROCESS\tSTATE\tSTATUS\tCONTAINER")
	for _, c := range containers {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", c.Node, c.Process, c.State, c.Status, c.Container)
	}
	return table.Flush()
}

// composeForward runs the same command in the operator's container.
func (a *app) composeForward(command *cobra.Command, args []string) error {
	ctx, cancel := a.bounded(command.Context(), composeTimeout)
	defer cancel()
	opened, err := lab.OpenComposeLab(ctx, lab.DefaultTopology("."))
	if err != nil {
		return err
	}
	forwarded := strings.Fields(command.CommandPath())[1:]
	command.Flags().Visit(func(flag *pflag.Flag) {
		if flag.Name != "engine" && flag.Name != "state" {
			forwarded = append(forwarded, "--"+flag.Name+"="+flag.Value.String())
		}
	})
	code, err := opened.Sluice(ctx, [3]*os.File{a.std.in, a.std.out, a.std.err}, append(forwarded, args...)...)
	if err != nil || code == exitOK {
		return err
	}
	return &codeError{code: code}
}

// composeFault makes or heals a fault by docker.
func (a *app) composeFault(command *cobra.Command, args []string) error {
	ctx, cancel := a.bounded(command.Context(), composeTimeout)
	defer cancel()
	opened, err := lab.OpenComposeLab(ctx, lab.DefaultTopology("."))
	if err != nil {
		return err
	}
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
