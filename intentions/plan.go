package intentions

import (
	"fmt"
	"io"
	"slices"
)

// Op is what applying a plan does to an entry or to an intention in Consul.
type Op string

// The three operations, shown as +, ~ and -.
const (
	Create Op = "create"
	Update Op = "update"
	Delete Op = "delete"
)

// PlanResult is what has to be written so that Consul holds what the files say.
type PlanResult struct {
	// Changes are one per destination, in order of name.
	Changes []Change `json:"changes"`
	// Add, Change and Delete count intentions whose verdict is new, other, or
	// gone.
	Add    int `json:"add"`
	Change int `json:"change"`
	Delete int `json:"delete"`
	// Describe counts intentions that differ in their description alone.
	Describe int `json:"describe"`
}

// Change is one write of one config entry.
type Change struct {
	Op          Op     `json:"op"`
	Destination string `json:"destination"`
	// Entry is what to write: the files' entry with Version set to what Consul
	// held when the plan was made, for a compare-and-set. For Delete it is what
	// Consul held.
	Entry Entry `json:"entry"`
	// Edges are the intentions that differ.
	Edges []EdgeChange `json:"edges"`
}

// EdgeChange is what happens to one intention.
type EdgeChange struct {
	Op   Op     `json:"op"`
	Edge string `json:"edge"`
	// Before and After are the rule in Consul and in the files; nil where there
	// is none.
	Before *Rule `json:"before,omitempty"`
	After  *Rule `json:"after,omitempty"`
}

// Plan compares files with live, what Consul holds. Entries that are in Consul
// and not in the files are to be deleted.
func Plan(files, live []Entry) PlanResult {
	want, have := byDestination(files), byDestination(live)
	result := PlanResult{Changes: []Change{}}
	for _, destination := range destinations(files, live) {
		after, inFiles := want[destination]
		before, inConsul := have[destination]
		change := Change{Op: Update, Destination: destination, Entry: after, Edges: edges(before, after)}
		change.Entry.Version = before.Version
		switch {
		case !inConsul:
			change.Op = Create
		case !inFiles:
			change.Op, change.Entry = Delete, before
		case len(change.Edges) == 0:
			continue
		}
		result.Changes = append(result.Changes, change)
		result.count(change.Edges)
	}
	return result
}

func (p *PlanResult) count(edges []EdgeChange) {
	for _, edge := range edges {
		switch {
		case edge.Op == Create:
			p.Add++
		case edge.Op == Delete:
			p.Delete++
		case edge.describes():
			p.Describe++
		default:
			p.Change++
		}
	}
}

// HasDrift reports whether Consul lets other services talk than the files do. A
// description that differs is to be written, but it is no drift.
func (p PlanResult) HasDrift() bool { return p.Add+p.Change+p.Delete > 0 }

// IsEmpty reports whether there is nothing to write.
func (p PlanResult) IsEmpty() bool { return len(p.Changes) == 0 }

// Summary returns the last line of a plan.
func (p PlanResult) Summary() string {
	if p.IsEmpty() {
		return "No changes. Consul holds exactly what the files say."
	}
	text := fmt.Sprintf("Plan: %d to add, %d to change, %d to delete.", p.Add, p.Change, p.Delete)
	if p.Describe > 0 {
		text += fmt.Sprintf(" %d to describe anew.", p.Describe)
	}
	return text
}

// Render writes the plan for people: a line for each intention that differs, and
// the summary. color turns on ANSI colours.
func (p PlanResult) Render(w io.Writer, color bool) error {
	for _, change := range p.Changes {
		title := "# " + change.Destination
		if at := change.Entry.Position; change.Op != Delete && at.File != "" {
			title += " (" + at.File + ")"
		} else if change.Op == Delete {
			title += " (in no file)"
		}
		if _, err := fmt.Fprintf(w, "  %s\n", title); err != nil {
			return err
		}
		for _, edge := range change.Edges {
			if _, err := fmt.Fprintf(w, "  %s\n", paint(edge.String(), edge.Op, color)); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, p.Summary())
	return err
}

// String returns the change as one line, for example
// "~ web -> mongo-primary  deny => allow".
func (e EdgeChange) String() string {
	switch {
	case e.Op == Create:
		return fmt.Sprintf("+ %s  %s", e.Edge, e.After.verb())
	case e.Op == Delete:
		return fmt.Sprintf("- %s  %s", e.Edge, e.Before.verb())
	case e.describes():
		return fmt.Sprintf("~ %s  description %q => %q", e.Edge, e.Before.Description, e.After.Description)
	default:
		return fmt.Sprintf("~ %s  %s => %s", e.Edge, e.Before.verb(), e.After.verb())
	}
}

// describes reports whether the verdict stays the same.
func (e EdgeChange) describes() bool {
	return e.Op == Update && e.Before.Action == e.After.Action && e.Before.L7 == e.After.L7
}

// edges compares two entries of one destination, by source.
func edges(before, after Entry) []EdgeChange {
	have, want := bySource(before), bySource(after)
	sources := make([]string, 0, len(have)+len(want))
	for source := range have {
		sources = append(sources, source)
	}
	for source := range want {
		sources = append(sources, source)
	}
	slices.Sort(sources)
	changes := []EdgeChange{}
	for _, source := range slices.Compact(sources) {
		a, b := have[source], want[source]
		switch {
		case a == nil:
			changes = append(changes, EdgeChange{Op: Create, Edge: b.Edge(), After: b})
		case b == nil:
			changes = append(changes, EdgeChange{Op: Delete, Edge: a.Edge(), Before: a})
		case a.Action != b.Action || a.L7 != b.L7 || a.Description != b.Description:
			changes = append(changes, EdgeChange{Op: Update, Edge: b.Edge(), Before: a, After: b})
		}
	}
	return changes
}

func bySource(entry Entry) map[string]*Rule {
	rules := map[string]*Rule{}
	for _, rule := range entry.Rules {
		rules[rule.Source] = &rule
	}
	return rules
}

func byDestination(entries []Entry) map[string]Entry {
	byName := map[string]Entry{}
	for _, entry := range entries {
		byName[entry.Destination] = entry
	}
	return byName
}

func destinations(lists ...[]Entry) []string {
	var names []string
	for _, list := range lists {
		for _, entry := range list {
			names = append(names, entry.Destination)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func paint(text string, op Op, color bool) string {
	if !color {
		return text
	}
	code := map[Op]string{Create: "32", Update: "33", Delete: "31"}[op]
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
