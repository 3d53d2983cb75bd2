package command

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"sluice/gateway/proxy"
	"sluice/internal/service"
)

// explain prints what would become of a request, or what became of one.
func explain(ctx context.Context, s Streams, o options, args []string) error {
	if len(args) != 1 {
		return service.UsageError{Err: errors.New("explain: want one URL, or the ID of a request")}
	}
	if isRequestID(args[0]) {
		return explainPast(ctx, s, o, args[0])
	}
	if _, err := netip.ParseAddr(o.client); err != nil && o.client != "" {
		return service.UsageError{Err: fmt.Errorf("explain: -client %q: want an IP address", o.client)}
	}
	query := url.Values{"url": {args[0]}, "method": {o.method}, "client": {o.client}}
	var e proxy.Explained
	if err := ask(ctx, o, "/explain?"+query.Encode(), &e); err != nil {
		return err
	}
	if o.output == "json" {
		if err := printJSON(s, e); err != nil {
			return err
		}
	} else {
		printExplained(s, e)
	}
	if e.Status >= 400 {
		return errNo
	}
	return nil
}

// isRequestID reports whether a word has the form of a request's ID.
func isRequestID(word string) bool {
	return len(word) == 26 && strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

func printExplained(s Streams, e proxy.Explained) {
	fmt.Fprintf(s.Out, "%s\n\n", e.Verdict)
	table := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(table, "%s\t%v\n", name, value) }
	row("request", e.Method+" "+e.Host+e.Path)
	row("client", e.Client)
	if e.Status != 0 {
		row("answer", e.Status)
	}
	if e.Route != "" {
		row("route", e.Route)
		row("options", or(e.Options, "none"))
		row("strategy", e.Strategy)
		row("time for the head of the answer", e.Timeout)
		row("attempts", fmt.Sprintf("at most %d; the budget has %d further ones", e.Attempts, e.BudgetLeft))
	}
	if e.Panic {
		row("ejected instances", "are used, because too few others are left")
	}
	if len(e.Credentials) > 0 {
		row("credentials", strings.Join(e.Credentials, ", "))
	}
	_ = table.Flush()
	fmt.Fprintln(s.Out, "\nhow it was found:")
	for _, host := range e.Lookup.Hosts {
		fmt.Fprintf(s.Out, "  host %s: %s\n", or(host.Host, "(any)"), host.Reason)
		for _, path := range host.Paths {
			mark := " "
			if path.Taken {
				mark = ">"
			}
			fmt.Fprintf(s.Out, "  %s %s: %s\n", mark, path.Key, path.Reason)
		}
	}
	printInstances(s, e)
	for _, r := range e.Registered {
		fmt.Fprintf(s.Out, "\nregistered as %s: %s\n", r.Service, or(r.Problem, "yes"))
	}
	for _, dc := range e.NotFollowed {
		fmt.Fprintf(s.Out, "\n%s: other datacenter, not followed (neither -failover-datacenters nor -datacenters names it)\n", dc)
	}
	for i, t := range e.Ignored {
		if i == 0 {
			fmt.Fprintln(s.Out, "\nignored tags:")
		}
		fmt.Fprintf(s.Out, "  %s on %s: %s: %s\n", t.Service, t.Node, t.Tag, t.Reason)
	}
}

func printInstances(s Streams, e proxy.Explained) {
	if len(e.Instances)+len(e.Absent) == 0 {
		return
	}
	fmt.Fprintln(s.Out, "\ninstances:")
	table := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  SERVICE\tINSTANCE\tNODE\tDC\tSHARE\tIN FLIGHT\tMAY IT BE CALLED\tMAY IT BE PICKED")
	for _, i := range e.Instances {
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%.0f %%\t%d\t%s\t%s\n", i.Service, i.Instance, i.Node, i.Datacenter, 100*i.Share, i.InFlight, i.Verdict, i.Why)
	}
	for _, a := range e.Absent {
		fmt.Fprintf(table, "  %s\t%s\t%s\t\t0 %%\t\t\tunhealthy: %s\n", a.Service, a.Instance, a.Node, strings.ReplaceAll(a.Why, "\n", " "))
	}
	_ = table.Flush()
}

func explainPast(ctx context.Context, s Streams, o options, id string) error {
	var t proxy.Trace
	if err := ask(ctx, o, "/explain?id="+url.QueryEscape(id), &t); err != nil {
		return err
	}
	if o.output == "json" {
		return printJSON(s, t)
	}
	fmt.Fprintf(s.Out, "%s %s%s from %s at %s: %d after %s\n", t.Method, t.Host, t.Path, t.Client, t.At.Format(time.RFC3339), t.Status, t.Took)
	fmt.Fprintf(s.Out, "route %s\n", or(t.Route, "none"))
	if t.Flags != "" {
		fmt.Fprintln(s.Out, "flags", t.Flags)
	}
	for i, a := range t.Attempts {
		what := "try"
		if a.Hedge {
			what = "hedge"
		}
		fmt.Fprintf(s.Out, "  %s %d after %s: %s %s on %s (%s), %s in %s", what, i+1, a.Began, a.Service, a.Instance, a.Node, a.Address, a.Outcome, a.Took)
		if a.Serial != "" {
			fmt.Fprintf(s.Out, " with leaf %s", a.Serial)
		}
		if a.Error != "" {
			fmt.Fprintf(s.Out, ": %s", a.Error)
		}
		if a.Then != "" {
			fmt.Fprintf(s.Out, "; then: %s", a.Then)
		}
		fmt.Fprintln(s.Out)
	}
	if t.Error != "" {
		fmt.Fprintln(s.Out, "error:", t.Error)
	}
	return nil
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
