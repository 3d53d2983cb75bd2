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

func newStatus(a *app) *cobra.Command {
	var watch bool
	command := &cobra.Command{
		Use:   "status",
		Short: "Nodes, processes, roles, certificates, who may talk to whom",
		Example: `  sluice status
  sluice status -w
  sluice status -o json | jq '.edges[] | select(.allowed)'`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if watch && a.json() {
				return &usageError{command.CommandPath(), errors.New("-w with -o json: there would be more than one document; ask again without -w")}
			}
			if watch {
				return a.repeat(command.Context(), a.status)
			}
			return a.status(command.Context())
		},
	}
	command.Flags().BoolVarP(&watch, "watch", "w", false, "again every second, until interrupted")
	return command
}

func (a *app) status(ctx context.Context) error {
	ctx, cancel := a.bounded(ctx, 15*time.Second)
	defer cancel()
	client, err := a.client()
	if err != nil {
		return err
	}
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if a.json() {
		return a.print(status)
	}
	return printStatus(a.std.out, status)
}

// repeat shows something anew every second until it fails or is interrupted.
func (a *app) repeat(ctx context.Context, show func(context.Context) error) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		if color(a.std.out) {
			fmt.Fprint(a.std.out, "\x1b[H\x1b[2J")
		}
		if err := show(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// uptime is empty where it is not known.
func uptime(status lab.Status) string {
	if status.Uptime <= 0 {
		return ""
	}
	return ", up for " + (time.Duration(status.Uptime) * time.Second).String()
}

func printStatus(out io.Writer, status lab.Status) error {
	fmt.Fprintf(out, "lab %s, engine %s, profile %s%s\n", status.State, status.Engine, status.Profile, uptime(status))
	if !status.Segmented {
		fmt.Fprintf(out, "NOT SEGMENTED: nodes share one loopback; around the mesh goes: %s\n", strings.Join(status.Unsegmented, ", "))
	}
	for _, fault := range status.Faults {
		fmt.Fprintf(out, "FAULT: %s, for %s\n", faultLine(fault), time.Since(fault.Since).Round(time.Second))
	}
	for _, limit := range status.Limits {
		fmt.Fprintln(out, "  limit:", limit)
	}
	for _, dc := range status.Datacenters {
		if dc.Cut {
			fmt.Fprintf(out, "  %s: parted from the others, %s\n", dc.Name, dc.CutDirection)
		}
		if dc.ReadOnly != "" {
			fmt.Fprintf(out, "  %s: %s\n", dc.Name, dc.ReadOnly)
		}
		for _, denial := range dc.Denials {
			fmt.Fprintf(out, "  %s: BREAK-GLASS denies %s; lift it: sluice intentions lift --local %s %s %s\n", dc.Name, denial, dc.Name, denial.Source, denial.Destination)
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nNODE\tADDRESS\tPROCESS\tSTATE\tHEALTH\tROLE\tMB\t"+pidHead(status))
	for _, node := range status.Nodes {
		name, address := node.Name, node.Address
		if node.Cut {
			address += " (cut)"
			if node.CutDirection != "both" {
				address = node.Address + " (cut " + node.CutDirection + ")"
			}
		}
		for _, process := range node.Processes {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%.0f\t%d\n", name, address, process.Name, process.State, health(process), process.Role, process.MemoryMB, process.PID)
			name, address = "", ""
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	printComplaints(out, status)
	fmt.Fprintln(table, "\nEDGE\tVERDICT\tOPEN\tWHY")
	for _, edge := range status.Edges {
		verdict := "deny"
		if edge.Allowed {
			verdict = "allow"
		}
		fmt.Fprintf(table, "%s -> %s\t%s\t%d\t%s\n", edge.Source, edge.Destination, verdict, edge.Open, edge.Reason)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if status.EdgesError != "" {
		fmt.Fprintf(out, "  no edges: %s\n", status.EdgesError)
	}
	printIdentities(table, status)
	return table.Flush()
}

// faultLine says a fault, and when it heals if it does so by itself.
func faultLine(fault lab.FaultRecord) string {
	if fault.Until.IsZero() {
		return fault.String()
	}
	return fmt.Sprintf("%s until %s", fault, fault.Until.Format(time.TimeOnly))
}

// pidHead says where a process ID counts: a `kill` on the host must not meet
// somebody else's process.
func pidHead(status lab.Status) string {
	if status.PIDNamespace == "lab" {
		return "PID IN LAB"
	}
	return "PID"
}

// printComplaints says why what is failing fails, below the table: the reasons are
// too long for a column.
func printComplaints(out io.Writer, status lab.Status) {
	for _, node := range status.Nodes {
		for _, process := range node.Processes {
			if process.Health != "" {
				fmt.Fprintf(out, "  %s/%s: %s\n", node.Name, process.Name, process.Health)
			}
		}
	}
}

// printIdentities lists every certificate in use.
func printIdentities(table io.Writer, status lab.Status) {
	fmt.Fprintln(table, "\nCERTIFICATE\tNODE\tSERIAL\tEXPIRES IN\tCHAIN")
	for _, node := range status.Nodes {
		for _, process := range node.Processes {
			if process.Mesh == nil {
				continue
			}
			for _, id := range process.Mesh.Identities {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", id.ID, node.Name, shortSerial(id.Serial), time.Until(id.NotAfter).Round(time.Minute), id.Chain)
			}
		}
	}
}

func shortSerial(serial string) string {
	if len(serial) > 17 {
		return serial[:17] + "…"
	}
	return serial
}

func health(process lab.ProcessStatus) string {
	switch {
	case process.Healthy == nil:
		return "-"
	case *process.Healthy:
		return "ok"
	default:
		return "failing"
	}
}
