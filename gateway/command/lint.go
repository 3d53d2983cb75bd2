package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"sluice/gateway/fabio"
	"sluice/gateway/override"
	"sluice/gateway/proxy"
	"sluice/gateway/tag"
	"sluice/internal/service"
)

// finding is one fault, or one tag without.
type finding struct {
	// Where is the service and node, or the key and line, "" for a tag that was given.
	Where string `json:"where,omitempty"`
	Text  string `json:"text"`
	// Route is what a good tag declares.
	Route string `json:"route,omitempty"`
	Fault string `json:"fault,omitempty"`
	// Closed means that nobody may use the route because of it.
	Closed bool `json:"closed,omitempty"`
}

// lint looks for faults in tags.
func lint(ctx context.Context, s Streams, o options, args []string) error {
	var found []finding
	var err error
	switch {
	case len(args) == 1 && args[0] == "-":
		found, err = lintLines(os.Stdin, o)
	case len(args) > 0:
		for _, text := range args {
			found = append(found, lintText(text, o))
		}
	default:
		found, err = lintGateway(ctx, o)
	}
	if err != nil {
		return err
	}
	faults := 0
	for _, f := range found {
		if f.Fault != "" {
			faults++
		}
	}
	if o.output == "json" {
		err = printJSON(s, found)
	} else {
		printFindings(s, found, faults)
	}
	if err == nil && faults > 0 {
		return errNo
	}
	return err
}

func lintLines(r io.Reader, o options) (found []finding, err error) {
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		if line := strings.TrimSpace(scanner.Text()); line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "//") {
			found = append(found, lintText(line, o))
		}
	}
	return found, scanner.Err()
}

// lintText reads a tag, or a command of the overrides, as a gateway in a datacenter
// of the name dc1 would.
func lintText(text string, o options) finding {
	if word, _, _ := strings.Cut(text, " "); word == "route" {
		return lintCommand(text, o)
	}
	return lintTag(text, o)
}

func lintTag(text string, o options) finding {
	r, err := tag.NewParser(o.prefix, "dc1").Parse(text)
	if err == nil {
		if err = o.permits(r); err != nil {
			return finding{Text: text, Fault: err.Error(), Closed: r.Options.Guarded()}
		}
	}
	var refused *tag.Error
	switch {
	case errors.Is(err, tag.ErrNotRoute):
		return finding{Text: text, Fault: "it is no route: it does not begin with " + or(o.prefix, tag.DefaultPrefix)}
	case errors.As(err, &refused):
		return finding{Text: text, Fault: err.Error(), Closed: refused.Guards}
	case err != nil:
		return finding{Text: text, Fault: err.Error()}
	}
	return finding{Text: text, Route: r.String()}
}

func lintCommand(text string, o options) finding {
	commands := override.Parse(override.Config{Datacenter: "dc1", Check: o.permits}, override.Source{Text: text})
	for _, p := range commands.Problems() {
		return finding{Text: text, Fault: p.Reason}
	}
	f := finding{Text: text, Route: "a command"}
	for _, key := range commands.Added() {
		f.Route = key.String()
	}
	return f
}

// permits refuses what needs -allow-plain where that is not given.
func (o options) permits(r tag.Route) error {
	if r.Options.Plain && !o.allowPlain {
		return errors.New("it is called without Connect, which -allow-plain would have to permit")
	}
	return nil
}

// lintGateway asks a running gateway what it has quarantined.
func lintGateway(ctx context.Context, o options) ([]finding, error) {
	var routes proxy.Routes
	if err := ask(ctx, o, "/routes", &routes); err != nil {
		return nil, err
	}
	var overrides struct {
		Key      string             `json:"key"`
		Problems []override.Problem `json:"ignored_lines"`
		Err      string             `json:"error"`
	}
	if err := ask(ctx, o, "/overrides", &overrides); err != nil {
		return nil, err
	}
	found := []finding{}
	for _, p := range routes.Problems {
		found = append(found, finding{Where: p.Service + " on " + p.Node, Text: p.Tag, Fault: p.Reason, Closed: p.Closed})
	}
	for _, r := range routes.Routes {
		for _, to := range r.Registered {
			if to.Problem != "" {
				found = append(found, finding{Where: r.Route, Text: "register=" + to.Service, Fault: to.Problem})
			}
		}
	}
	for _, p := range overrides.Problems {
		found = append(found, finding{Where: fmt.Sprintf("%s:%d", p.Source, p.Line), Text: p.Text, Fault: p.Reason})
	}
	if overrides.Err != "" {
		found = append(found, finding{Where: "overrides", Text: overrides.Key, Fault: "they cannot be read, and the last ones hold: " + overrides.Err})
	}
	return found, nil
}

func printFindings(s Streams, found []finding, faults int) {
	for _, f := range found {
		where := f.Text
		if f.Where != "" {
			where = f.Where + ": " + f.Text
		}
		switch {
		case f.Fault == "":
			fmt.Fprintf(s.Out, "%s\n  good: %s\n", where, f.Route)
		case f.Closed:
			fmt.Fprintf(s.Out, "%s\n  %s\n  it was meant to restrict its route, which is therefore closed to everybody\n", where, f.Fault)
		default:
			fmt.Fprintf(s.Out, "%s\n  %s\n", where, f.Fault)
		}
	}
	switch faults {
	case 0:
		fmt.Fprintln(s.Out, "no faults")
	case 1:
		fmt.Fprintln(s.Out, "1 fault")
	default:
		fmt.Fprintf(s.Out, "%d faults\n", faults)
	}
}

// importFabio reads a configuration of Fabio.
func importFabio(_ context.Context, s Streams, o options, args []string) error {
	if len(args) != 1 {
		return service.UsageError{Err: errors.New("import-fabio: want one file, or - for the standard input")}
	}
	var text []byte
	var err error
	if args[0] == "-" {
		text, err = io.ReadAll(io.LimitReader(os.Stdin, mostBytes))
	} else {
		text, err = os.ReadFile(args[0])
	}
	if err != nil {
		return err
	}
	report, err := fabio.Convert(string(text), os.Getenv)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	if o.output == "json" {
		return printJSON(s, report)
	}
	for _, f := range report.Flags {
		fmt.Fprintf(s.Out, "%s = %s\n", f.Name, f.Value)
	}
	for _, n := range report.Notes {
		fmt.Fprintf(s.Out, "# %s\n", n)
	}
	if !report.Complete() {
		fmt.Fprintln(s.Err, "import-fabio: something is left to do by hand; see the lines with # above")
		return errNo
	}
	return nil
}
