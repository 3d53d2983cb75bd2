package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice/lab"
)

func newMongoStatus(a *app) *cobra.Command {
	var watch bool
	command := &cobra.Command{
		Use:   "status",
		Short: "Members, roles, term, lag, sync source, last election, held dials",
		Long: `One line per member: its role and for how long, how far it is behind the primary,
whom it copies from, whether the primary's lease holds, and when its peers heard it
last. Then the last election and why, and the dials that each web holds.

Exit code 1 when there is no primary, or when more than one member claims to be.`,
		Example: `  sluice mongo status
  sluice mongo status -w
  sluice mongo status -o json | jq -r .primary`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if watch && a.json() {
				return &usageError{command.CommandPath(), errors.New("-w with -o json: there would be more than one document; ask again without -w")}
			}
			if watch {
				return a.repeat(command.Context(), func(ctx context.Context) error {
					var verdict *codeError
					if err := a.mongoStatus(ctx); !errors.As(err, &verdict) {
						return err
					}
					return nil
				})
			}
			return a.mongoStatus(command.Context())
		},
	}
	command.Flags().BoolVarP(&watch, "watch", "w", false, "again every second, until interrupted")
	return command
}

func (a *app) mongoStatus(ctx context.Context) error {
	ctx, cancel := a.bounded(ctx, 15*time.Second)
	defer cancel()
	client, err := a.client()
	if err != nil {
		return err
	}
	status, err := client.MongoStatus(ctx)
	if err != nil {
		return err
	}
	if a.json() {
		err = a.print(status)
	} else {
		err = printMongo(a.std.out, status, time.Now())
	}
	if err == nil && (status.Primary == "" || status.Alarm != "") {
		return no()
	}
	return err
}

func printMongo(out io.Writer, status lab.MongoStatus, now time.Time) error {
	primary := status.Primary
	if primary == "" {
		primary = "NONE"
	}
	fmt.Fprintf(out, "set %s, profile %s, primary %s, term %d\n", status.Set, status.Profile, primary, status.Term)
	if status.Alarm != "" {
		fmt.Fprintln(out, "ALARM:", status.Alarm)
	}
	for _, side := range status.Sides {
		if side.ReadOnly != "" {
			fmt.Fprintf(out, "%s: %s\n", side.Datacenter, side.ReadOnly)
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nNODE\tDC\tROLE\tFOR\tTERM\tLAG\tCOPIES FROM\tLEASE\tMONGOD\tPEERS HEARD IT")
	for _, m := range status.Members {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Node, m.Datacenter, m.Role, since(m, now), termOf(m),
			lag(m), dash(m.Source), lease(m), mongodState(m), freshness(status.Members, m.Node))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, m := range status.Members {
		printMember(out, m)
	}
	printElection(out, status.Election, now)
	fmt.Fprintln(table, "\nWEB\tDOOR\tTO\tTERM\tLIVE\tHELD\tHELD SO FAR\tGIVEN UP")
	for _, d := range status.Webs {
		if d.Error != "" {
			fmt.Fprintf(table, "%s\tdoes not answer\n", d.Node)
			continue
		}
		held := fmt.Sprint(d.Held)
		if d.Held > 0 {
			held += fmt.Sprintf(" (oldest %.0f ms)", d.OldestHeldMS)
		}
		c := d.Counters
		fmt.Fprintf(table, "%s\t%s %s\t%s\t%d\t%d\t%s\t%d\t%d\n", d.Node, d.Service, d.Address, dash(d.To), d.Epoch, d.Live, held, c.Held, c.Expired+c.Overflow)
	}
	return table.Flush()
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func since(m lab.MongoMember, now time.Time) string {
	if m.Report == nil || m.Report.Since.IsZero() {
		return "-"
	}
	return now.Sub(m.Report.Since).Round(time.Second).String()
}

func termOf(m lab.MongoMember) string {
	if m.Report == nil {
		return "-"
	}
	return fmt.Sprint(m.Report.Term)
}

func lag(m lab.MongoMember) string {
	switch {
	case m.Lag == nil:
		return "-"
	case m.Lag.Least:
		return fmt.Sprintf("%d ms, %d ops or more", m.Lag.MS, m.Lag.Ops)
	default:
		return fmt.Sprintf("%d ms, %d ops", m.Lag.MS, m.Lag.Ops)
	}
}

// lease says for how long a primary may still take writes without hearing from a
// majority.
func lease(m lab.MongoMember) string {
	switch {
	case m.Report == nil || m.Role != "primary":
		return "-"
	case m.Report.Lease.Valid:
		return fmt.Sprintf("%.0f ms left", m.Report.Lease.LeftMS)
	default:
		return "lost"
	}
}

func mongodState(m lab.MongoMember) string {
	if m.Mongod == "running" && m.Report != nil && m.Report.Mongod.State != "" && m.Report.Mongod.State != "running" {
		return m.Report.Mongod.State
	}
	return m.Mongod
}

// freshness says how long ago each other agent heard from the node's.
func freshness(members []lab.MongoMember, node string) string {
	var texts []string
	for _, other := range members {
		if other.Report == nil {
			continue
		}
		for _, peer := range other.Report.Peers {
			switch {
			case peer.Node != node:
			case peer.Lost:
				texts = append(texts, other.Node+" lost it")
			case peer.HeardMS == nil:
				texts = append(texts, other.Node+" never")
			default:
				texts = append(texts, fmt.Sprintf("%s %.0f ms", other.Node, *peer.HeardMS))
			}
		}
	}
	return dash(strings.Join(texts, ", "))
}

// printMember says what is wrong with a member, below the table: reasons are too
// long for a column.
func printMember(out io.Writer, m lab.MongoMember) {
	if m.Report == nil {
		fmt.Fprintf(out, "  %s: its agent %s\n", m.Node, m.AgentError)
		return
	}
	if m.Report.Reason != "" {
		fmt.Fprintf(out, "  %s: %s\n", m.Node, m.Report.Reason)
	}
	if m.Report.Fence != "" {
		fmt.Fprintf(out, "  %s: fenced: %s\n", m.Node, m.Report.Fence)
	}
	for _, peer := range m.Report.Peers {
		if peer.Lost {
			fmt.Fprintf(out, "  %s has lost %s: %s\n", m.Node, peer.Node, peer.Reason)
		}
	}
}

func printElection(out io.Writer, e *lab.ElectionEvent, now time.Time) {
	if e == nil {
		fmt.Fprintln(out, "\nno agent has taken part in an election")
		return
	}
	text := fmt.Sprintf("last election %s ago: %s", now.Sub(e.At).Round(time.Second), e.Why)
	if e.Subject != "" {
		text += " (" + e.Subject + ")"
	}
	text += ": " + e.Outcome
	if e.Helper != "" {
		text += ", helped by the agent of " + e.Helper
	}
	if e.ElectedMS > 0 {
		text += fmt.Sprintf("; decided after %.0f ms, elected after %.0f ms", e.DecidedMS, e.ElectedMS)
	}
	if e.Error != "" {
		text += "; " + e.Error
	}
	fmt.Fprintln(out, "\n"+text)
}
