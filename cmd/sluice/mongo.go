package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"sluice/lab"
)

func newMongo(a *app) *cobra.Command {
	command := group(&cobra.Command{
		Use:   "mongo",
		Short: "The replica set: who is primary and why, and drills with it",
		Example: `  sluice mongo status -w
  sluice mongo stepdown                  # the primary hands over to whoever is next
  sluice mongo rolling-restart`,
	})
	command.AddCommand(newMongoStatus(a), newMongoStepdown(a), newMongoFreeze(a), newMongoResync(a), newMongoRolling(a),
		newMongoPromote(a), newMongoReadmit(a))
	return command
}

func newMongoStepdown(a *app) *cobra.Command {
	request := lab.MongoRequest{Action: lab.MongoStep}
	command := &cobra.Command{
		Use:   "stepdown [--to NODE]",
		Short: "Let the primary hand over, with no request lost",
		Long: `The primary's agent hands over to the member that is next (or to --to), and the
command returns when another member is primary. Refused, with exit code 1, when
nobody could take over.`,
		Example: `  sluice mongo stepdown
  sluice mongo stepdown --to mongo-3
  sluice mongo stepdown --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return a.drill(command, request, 30*time.Second) },
	}
	command.Flags().StringVar(&request.Node, "to", "", "the node that shall be primary (default whoever is next)")
	dryRunFlag(command, &request)
	return command
}

func newMongoFreeze(a *app) *cobra.Command {
	request := lab.MongoRequest{Action: lab.MongoFreeze}
	command := &cobra.Command{
		Use:   "freeze NODE [--for 60s]",
		Short: "Keep a secondary from standing for election for a time",
		Long: `The member goes on copying and serving reads, and does not stand for election for
the time given; --for 0s ends that. (A process that is halted is another thing:
sluice fault stop.)`,
		Example: `  sluice mongo freeze mongo-3 --for 60s
  sluice mongo freeze mongo-3 --for 0s`,
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			request.Node = args[0]
			return a.drill(command, request, 30*time.Second)
		},
	}
	command.Flags().DurationVar(&request.For, "for", time.Minute, "how long, in whole seconds; 0s ends it")
	dryRunFlag(command, &request)
	return command
}

func newMongoResync(a *app) *cobra.Command {
	request := lab.MongoRequest{Action: lab.MongoResync}
	var yes bool
	command := &cobra.Command{
		Use:   "resync NODE --yes",
		Short: "Let a member start empty and copy everything from another",
		Long: `Stops the member's mongod, moves its data aside, starts it empty, waits until it
has copied everything and is a secondary again, and then deletes the old data.
Refused, with exit code 1, for the primary, and when the others would not be a
majority. When it fails, the old data stays, and the message says where.`,
		Example: `  sluice mongo resync mongo-3 --dry-run
  sluice mongo resync mongo-3 --yes`,
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			if !yes && !request.DryRun {
				return &usageError{command.CommandPath(), errors.New("resync deletes the member's data: say --yes, or --dry-run to see what would be done")}
			}
			request.Node = args[0]
			return a.drill(command, request, 3*time.Minute)
		},
	}
	command.Flags().BoolVar(&yes, "yes", false, "yes, delete the member's data")
	dryRunFlag(command, &request)
	return command
}

func newMongoRolling(a *app) *cobra.Command {
	request := lab.MongoRequest{Action: lab.MongoRolling}
	command := &cobra.Command{
		Use:   "rolling-restart [--what mongod|mongo-agent|all]",
		Short: "Restart every member, one after another, with no request lost",
		Long: `Secondaries first, the primary last, after it has handed over. Between two the
command waits until the set is whole again. Refused, with exit code 1, when it is
not whole at the start; stops at the first member that does not come back.`,
		Example: `  sluice mongo rolling-restart
  sluice mongo rolling-restart --what mongo-agent`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return a.drill(command, request, 10*time.Minute) },
	}
	command.Flags().StringVar(&request.What, "what", "all", "mongod, mongo-agent or all")
	dryRunFlag(command, &request)
	return command
}

func newMongoPromote(a *app) *cobra.Command {
	request := lab.MongoRequest{Action: lab.MongoPromote}
	var yes bool
	command := &cobra.Command{
		Use:   "promote DATACENTER",
		Short: "Break-glass: a datacenter goes on alone after the majority is lost",
		Long: `Makes the members of one datacenter the only voters of the replica set, without the
consent of a majority, so that writes resume there. Shows the last majority time on
each side and what can be lost by it, and asks; --yes does not ask. Refused, with exit code 1, while those members hear a
primary: then a hand-over loses nothing.

The members elsewhere stay in the set without a vote. When they are back they copy
from here, and what only they had is rolled back: "sluice mongo readmit" says what
that was, keeps it, and gives them their votes back.`,
		Example: `  sluice mongo promote dc2 --dry-run
  sluice mongo promote dc2`,
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			request.Datacenter = args[0]
			if request.DryRun || yes {
				return a.drill(command, request, time.Minute)
			}
			plan := request
			plan.DryRun = true
			planned, err := a.perform(command, plan, time.Minute)
			if err != nil {
				return err
			}
			for _, line := range planned.Planned {
				a.say("%s", line)
			}
			if err := a.std.agree("promote " + request.Datacenter + "?"); err != nil {
				return err
			}
			return a.drill(command, request, time.Minute)
		},
	}
	command.Flags().BoolVar(&yes, "yes", false, "do not ask")
	dryRunFlag(command, &request)
	return command
}

func newMongoReadmit(a *app) *cobra.Command {
	request := lab.MongoRequest{Action: lab.MongoReadmit}
	command := &cobra.Command{
		Use:   "readmit",
		Short: "After a promotion: what was rolled back, and votes for every member again",
		Long: `Waits until the members that lost their votes by "promote" have copied from the new
primary, and gives the votes back one by one. Documents that only they had are
listed by their _id and kept in files; a member that cannot roll back by itself
is copied anew after that.`,
		Example: `  sluice mongo readmit --dry-run
  sluice mongo readmit`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return a.drill(command, request, 5*time.Minute) },
	}
	dryRunFlag(command, &request)
	return command
}

func dryRunFlag(command *cobra.Command, request *lab.MongoRequest) {
	command.Flags().BoolVar(&request.DryRun, "dry-run", false, "say what would be done")
}

// perform asks the lab for a drill and tells how it goes.
func (a *app) perform(command *cobra.Command, request lab.MongoRequest, limit time.Duration) (lab.MongoResult, error) {
	ctx, cancel := a.bounded(command.Context(), limit)
	defer cancel()
	client, err := a.client()
	if err != nil {
		return lab.MongoResult{}, err
	}
	return client.Mongo(ctx, request, func(event lab.MongoEvent) { a.say("  %s", event.Text) })
}

// drill asks the lab for a drill and shows what became of it.
func (a *app) drill(command *cobra.Command, request lab.MongoRequest, limit time.Duration) error {
	result, err := a.perform(command, request, limit)
	if err != nil {
		return err
	}
	if a.json() {
		return a.print(result)
	}
	for _, line := range result.Planned {
		a.say("dry run: %s", line)
	}
	if !request.DryRun {
		a.say("%s is primary, term %d", result.Primary, result.Term)
	}
	return nil
}
