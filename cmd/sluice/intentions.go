package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice/consul"
	"sluice/intentions"
	"sluice/lab"
	"sluice/lab/engine"
)

func newIntentions(a *app) *cobra.Command {
	var dir string
	command := group(&cobra.Command{
		Use:     "intentions",
		Aliases: []string{"intention"},
		Short:   "Who may talk to whom",
		Long: `Intentions say who may talk to whom. The files in intentions/ are what should
hold; allow and deny change Consul at once, plan shows how far it has drifted from
the files, apply brings it back.`,
		Example: `  sluice intentions deny web mongo-primary
  sluice intentions plan
  sluice intentions apply
  sluice intentions why gateway web`,
	})
	plan, apply, why := newPlan(a, &dir), newApply(a, &dir), newWhy(a, &dir)
	for _, reader := range []*cobra.Command{plan, apply, why} {
		reader.Flags().StringVar(&dir, "dir", "", "`folder` of the intention files (default: the one that the lab came up with)")
	}
	command.AddCommand(
		newList(a), plan, apply,
		newToggle(a, intentions.Allow), newToggle(a, intentions.Deny), newLift(a),
		newCheck(a), why,
	)
	return command
}

// session is a connection to the lab's Consul, as the operator.
type session struct {
	lab    *lab.Client
	consul *consul.Client
	dir    string
	// enforcer tells who enforces what was written.
	enforcer enforcer
	// alone says that there is no supervisor that asks the processes: in a container.
	alone bool
}

// running returns a lab that runs, with its options. alone says that there is no
// supervisor, which is so in a container; there nobody tells whether the lab runs.
func (a *app) running(ctx context.Context) (client *lab.Client, options lab.Options, alone bool, err error) {
	if client, err = a.client(); err != nil {
		return nil, lab.Options{}, false, err
	}
	options, err = client.Options()
	if alone = err == nil && options.Engine == engine.Compose; !alone {
		if stopped := client.Running(ctx); stopped != nil {
			return nil, lab.Options{}, false, stopped
		}
	}
	return client, options, alone, err
}

func (a *app) session(ctx context.Context, dir string) (*session, error) {
	client, options, alone, err := a.running(ctx)
	if err != nil {
		return nil, err
	}
	if dir == "" {
		dir = options.IntentionsDir
	}
	opened, err := client.Consul()
	if err != nil {
		return nil, err
	}
	return &session{lab: client, enforcer: client, consul: opened, dir: dir, alone: alone}, nil
}

// files loads the files and refuses those that are wrong; warnings are shown.
func (a *app) files(dir string) ([]intentions.Entry, error) {
	entries, err := intentions.Load(dir)
	if err != nil {
		return nil, err
	}
	problems := intentions.Validate(entries, lab.ServiceNames())
	if err := problems.Err(); err != nil {
		return nil, err
	}
	for _, problem := range problems {
		a.say("%s", problem)
	}
	return entries, nil
}

func newList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "The intentions that Consul holds, most exact first", Args: cobra.NoArgs,
		Example: "  sluice intentions list\n  sluice intentions list -o json | jq '.[] | select(.action == \"allow\")'",
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, cancel := a.bounded(command.Context(), 15*time.Second)
			defer cancel()
			s, err := a.session(ctx, "")
			if err != nil {
				return err
			}
			live, err := s.consul.ListIntentions(ctx)
			if err != nil {
				return err
			}
			rules := intentions.NewSet(intentions.Flatten(live), intentions.Deny).Rules()
			if a.json() {
				return a.print(rules)
			}
			table := tabwriter.NewWriter(a.std.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "SOURCE\tDESTINATION\tACTION\tPRECEDENCE\tDESCRIPTION")
			for _, rule := range rules {
				action := string(rule.Action)
				if rule.L7 {
					action = "deny (HTTP permissions)"
				}
				fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\n", rule.Source, rule.Destination, action, rule.Precedence(), rule.Description)
			}
			fmt.Fprintln(table, "*\t*\tdeny\t0\tdefault policy")
			for _, local := range s.denials(ctx) {
				fmt.Fprintf(table, "%s\t%s\tdeny\tabove all\tBREAK-GLASS of %s: %s\n", local.Denial.Source, local.Denial.Destination, local.Datacenter, local.Denial)
			}
			return table.Flush()
		},
	}
}

func newPlan(a *app, dir *string) *cobra.Command {
	return &cobra.Command{
		Use: "plan", Short: "What apply would change; exit code 1 when there is drift", Args: cobra.NoArgs,
		Example: "  sluice intentions plan\n  sluice intentions plan --dir intentions",
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, cancel := a.bounded(command.Context(), 15*time.Second)
			defer cancel()
			plan, _, err := a.plan(ctx, *dir)
			if err != nil {
				return err
			}
			if err := a.showPlan(plan); err != nil {
				return err
			}
			if plan.HasDrift() {
				return no()
			}
			return nil
		},
	}
}

func (a *app) plan(ctx context.Context, dir string) (intentions.PlanResult, *session, error) {
	s, err := a.session(ctx, dir)
	if err != nil {
		return intentions.PlanResult{}, nil, err
	}
	files, err := a.files(s.dir)
	if err != nil {
		return intentions.PlanResult{}, nil, err
	}
	live, err := s.consul.ListIntentions(ctx)
	if err != nil {
		return intentions.PlanResult{}, nil, err
	}
	return intentions.Plan(files, live), s, nil
}

func (a *app) showPlan(plan intentions.PlanResult) error {
	if a.json() {
		return a.print(plan)
	}
	return plan.Render(a.std.out, color(a.std.out))
}

func newApply(a *app, dir *string) *cobra.Command {
	var dryRun bool
	command := &cobra.Command{
		Use: "apply", Short: "Make Consul hold what the files say",
		Long: `Make Consul hold what the files say. Each write is a compare-and-set on what the
plan was made from: a change that somebody else made meanwhile is never
overwritten, the command stops and says so.`,
		Example: "  sluice intentions apply\n  sluice intentions apply --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, cancel := a.bounded(command.Context(), 30*time.Second)
			defer cancel()
			plan, s, err := a.plan(ctx, *dir)
			if err != nil {
				return err
			}
			if err := a.showPlan(plan); err != nil || dryRun || plan.IsEmpty() {
				return err
			}
			if err := s.apply(ctx, plan); err != nil {
				return err
			}
			a.say("applied")
			return nil
		},
	}
	command.Flags().BoolVar(&dryRun, "dry-run", false, "show the plan only")
	return command
}

func (s *session) apply(ctx context.Context, plan intentions.PlanResult) error {
	for _, change := range plan.Changes {
		var err error
		if change.Op == intentions.Delete {
			err = s.consul.DeleteEntry(ctx, change.Destination, change.Entry.Version)
		} else {
			err = s.consul.ApplyEntry(ctx, change.Entry)
		}
		if errors.Is(err, consul.ErrConflict) {
			return fmt.Errorf("apply %s: %w; nothing of it was overwritten, look with `sluice intentions plan` and apply again", change.Destination, err)
		}
		if err != nil {
			return fmt.Errorf("apply %s: %w", change.Destination, err)
		}
	}
	return s.awaitPlan(ctx, plan)
}

// awaitPlan waits until each changed edge is decided as the files say.
func (s *session) awaitPlan(ctx context.Context, plan intentions.PlanResult) error {
	var edges [][2]string
	for _, change := range plan.Changes {
		for _, edge := range change.Edges {
			rule := edge.After
			if rule == nil {
				rule = edge.Before
			}
			edges = append(edges, pairs(rule.Source, rule.Destination)...)
		}
	}
	live, err := s.consul.ListIntentions(ctx)
	if err != nil {
		return err
	}
	_, err = s.await(ctx, intentions.NewSet(intentions.Flatten(live), intentions.Deny), edges)
	return err
}

// knownServices refuses names that nobody in the lab has: a typing error must
// not look like a toggle that works.
func knownServices(names []string) error {
	for _, name := range names {
		if name != intentions.Wildcard && !slices.Contains(lab.ServiceNames(), name) {
			return fmt.Errorf("no service %q; there are %s, and * for all", name, strings.Join(lab.ServiceNames(), ", "))
		}
	}
	return nil
}

func completeServices(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) >= 2 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return lab.ServiceNames(), cobra.ShellCompDirectiveNoFileComp
}
