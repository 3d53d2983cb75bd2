package main

import (
	"cmp"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"sluice/lab"
	"sluice/lab/disk"
	"sluice/lab/engine"
)

func newFault(a *app) *cobra.Command {
	var dryRun bool
	command := group(&cobra.Command{
		Use:   "fault",
		Short: "Break something on purpose, and heal it",
		Example: `  sluice fault kill mongo-1/mongod
  sluice fault stop web-1/consul       # SIGSTOP: alive, but silent
  sluice fault term mongo-1/mongod     # SIGTERM, with no hand-over before it
  sluice fault cut mongo-2             # the node's link drops every frame
  sluice fault disk mongo-1 full       # its mongod finds no room
  sluice fault clock mongo-1 --ahead 1h
  sluice fault heal --all`,
	})
	command.PersistentFlags().BoolVar(&dryRun, "dry-run", false, "say what would be done")
	for _, fault := range []struct {
		action     lab.FaultAction
		use, short string
		example    string
	}{
		{lab.FaultKill, "kill NODE[/PROCESS]", "SIGKILL; it stays dead until restart or heal", "kill mongo-1/mongod"},
		{lab.FaultTerm, "term NODE[/PROCESS]", "SIGTERM and nothing else; it stays down until restart or heal", "term mongo-1/mongod"},
		{lab.FaultStop, "stop NODE[/PROCESS]", "SIGSTOP: alive, but silent", "stop web-1/consul"},
		{lab.FaultCont, "cont NODE[/PROCESS]", "SIGCONT after stop", "cont web-1/consul"},
		{lab.FaultRestart, "restart NODE[/PROCESS]", "End it if it runs, then start it", "restart web-2/web"},
	} {
		command.AddCommand(&cobra.Command{
			Use: fault.use, Short: fault.short, Args: cobra.ExactArgs(1),
			Example: "  sluice fault " + fault.example,
			RunE: func(command *cobra.Command, args []string) error {
				return a.fault(command, lab.FaultRequest{Action: fault.action, Target: args[0], DryRun: dryRun})
			},
		})
	}
	command.AddCommand(newFaultCut(a, &dryRun), newFaultDisk(a, &dryRun), newFaultClock(a, &dryRun), newFaultHeal(a, &dryRun))
	return command
}

func newFaultCut(a *app, dryRun *bool) *cobra.Command {
	var direction, from, to string
	command := &cobra.Command{
		Use:   "cut NODE|DATACENTER",
		Short: "Drop every frame of a node, or of a datacenter, silently",
		Long: `Drop every frame to and from a node, or only those of one direction: in is what
others send to the node, out what the node sends. Nobody is told: what was sent is
lost, and no connection is refused or reset. Cuts add up until heal. A datacenter is
cut off from the others alone: its nodes go on hearing each other. Of two datacenters,
"cut dc2 --from dc1" drops what dc1 sends to dc2, and "cut dc2 --to dc1" what dc2 sends.`,
		Example: `  sluice fault cut mongo-2
  sluice fault cut mongo-1 --direction in     # it speaks, and hears nothing
  sluice fault cut dc1
  sluice fault cut dc2 --from dc1             # dc2 hears nothing of dc1; dc1 hears dc2`,
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			switch {
			case from != "":
				direction = string(engine.In)
			case to != "":
				direction = string(engine.Out)
			}
			return a.fault(command, lab.FaultRequest{
				Action: lab.FaultCut, Target: args[0], Direction: engine.Direction(direction), Other: cmp.Or(from, to), DryRun: *dryRun,
			})
		},
	}
	command.Flags().StringVar(&direction, "direction", string(engine.Both), "both, in or out, as seen from the node or the datacenter")
	command.Flags().StringVar(&from, "from", "", "drop only what this other datacenter sends")
	command.Flags().StringVar(&to, "to", "", "drop only what is sent to this other datacenter")
	command.MarkFlagsMutuallyExclusive("from", "to", "direction")
	return command
}

func newFaultDisk(a *app, dryRun *bool) *cobra.Command {
	return &cobra.Command{
		Use:   "disk NODE full|stall",
		Short: "Fill the disk of a node's mongod, or let its fsyncs stall",
		Long: `Make the disk of a node's mongod fail while it runs. On a full disk every fsync
fails with ENOSPC; on one that stalls no fsync returns before heal. Writes into the
page cache go through, as they do on a real disk. No other process is touched, and
no file. Heal also starts a mongod that has ended for want of room.`,
		Example: `  sluice fault disk mongo-1 full
  sluice fault disk mongo-1 stall`,
		Args: cobra.ExactArgs(2),
		RunE: func(command *cobra.Command, args []string) error {
			return a.fault(command, lab.FaultRequest{
				Action: lab.FaultDisk, Target: args[0], Ailment: disk.Ailment(args[1]), DryRun: *dryRun,
			})
		},
	}
}

func newFaultClock(a *app, dryRun *bool) *cobra.Command {
	var ahead, behind time.Duration
	command := &cobra.Command{
		Use:   "clock NODE --ahead TIME | --behind TIME",
		Short: "Restart a node's mongod with a clock that is wrong",
		Long: `Restart a node's mongod with a wall clock that is ahead or behind, until heal, which
restarts it with the right one. A primary hands over before each. Only mongod's clock
is wrong: the programs of sluice and Consul ask the kernel, which nobody can deceive
for one process. It takes libfaketime.`,
		Example: `  sluice fault clock mongo-2 --ahead 1h
  sluice fault clock mongo-2 --behind 90s`,
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			return a.fault(command, lab.FaultRequest{Action: lab.FaultClock, Target: args[0], Offset: ahead - behind, DryRun: *dryRun})
		},
	}
	command.Flags().DurationVar(&ahead, "ahead", 0, "how far ahead")
	command.Flags().DurationVar(&behind, "behind", 0, "how far behind")
	command.MarkFlagsMutuallyExclusive("ahead", "behind")
	command.MarkFlagsOneRequired("ahead", "behind")
	return command
}

func newFaultHeal(a *app, dryRun *bool) *cobra.Command {
	var all bool
	heal := &cobra.Command{
		Use:   "heal [NODE|DATACENTER] [--all]",
		Short: "Undo faults: links up, disks healthy, clocks right, frozen processes on, dead ones started",
		Example: `  sluice fault heal mongo-2
  sluice fault heal --all`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || (len(args) == 0) != all {
				return errors.New("heal wants a node, a datacenter or --all")
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			request := lab.FaultRequest{Action: lab.FaultHeal, DryRun: *dryRun}
			if !all {
				request.Target = args[0]
			}
			return a.fault(command, request)
		},
	}
	heal.Flags().BoolVar(&all, "all", false, "heal everything")
	return heal
}

func (a *app) fault(command *cobra.Command, request lab.FaultRequest) error {
	ctx, cancel := a.bounded(command.Context(), time.Minute)
	defer cancel()
	client, err := a.client()
	if err != nil {
		return err
	}
	result, err := client.Fault(ctx, request)
	if err != nil {
		return err
	}
	if a.json() {
		return a.print(result)
	}
	for _, line := range result.Planned {
		a.say("dry run: %s", line)
	}
	if len(result.Done)+len(result.Planned) == 0 {
		a.say("nothing to heal")
	}
	for _, line := range result.Done {
		a.say("%s", line)
	}
	return nil
}
