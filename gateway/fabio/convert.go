package fabio

import (
	"fmt"
	"slices"
	"strings"

	"sluice/gateway/config"
)

// Kind is what becomes of a property, or of a part of one.
type Kind string

// The kinds of a Note.
const (
	// Same: the gateway does so without being told.
	Same Kind = "same"
	// Elsewhere: the gateway does it in another way, which the reason names.
	Elsewhere Kind = "done otherwise"
	// ByHand: something is left to do for whoever moves.
	ByHand Kind = "by hand"
	// Unsupported: the gateway does not do it.
	Unsupported Kind = "not supported"
	// Dead: Fabio itself takes no notice of it any more.
	Dead Kind = "dead"
	// Unknown: Fabio has no such property.
	Unknown Kind = "unknown"
	// Malformed: Fabio would not start with it either, or its value refers to
	// nothing.
	Malformed Kind = "malformed"
)

// Flag is a flag of the gateway, without the dash.
type Flag struct {
	Name, Value string
	// Property is where it comes from, with its line.
	Property string
	Line     int
}

// Note says why a property, or a part of one, is no flag. Its Reason never holds
// a value that may be a secret.
type Note struct {
	Property string
	// Line is where it is, from 1; 0 is that it is not in the file.
	Line   int
	Kind   Kind
	Reason string
}

// Report is what a configuration of Fabio is here. Every property of the file is
// the origin of at least one flag or one note.
type Report struct {
	Flags []Flag
	Notes []Note
}

// Args returns the flags as arguments of the gateway.
func (r Report) Args() []string {
	var args []string
	for _, f := range r.Flags {
		args = append(args, "-"+f.Name, f.Value)
	}
	return args
}

// Complete reports whether nothing is lost and nothing is left to do: all notes
// are Same, Elsewhere or Dead.
func (r Report) Complete() bool {
	return !slices.ContainsFunc(r.Notes, func(n Note) bool {
		return n.Kind != Same && n.Kind != Elsewhere && n.Kind != Dead
	})
}

// String returns the report for people: one flag a line, quoted for a shell, then
// one note a line in the order of the file.
func (r Report) String() string {
	var b strings.Builder
	for _, f := range r.Flags {
		fmt.Fprintf(&b, "-%s %s\n", f.Name, quote(f.Value))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "# %s: %s: %s: %s\n", where(n.Line), n.Property, n.Kind, n.Reason)
	}
	return b.String()
}

// String returns the note for people, in one line.
func (n Note) String() string {
	return fmt.Sprintf("%s, %s: %s: %s", where(n.Line), n.Property, n.Kind, n.Reason)
}

// quote makes one word of a shell.
func quote(value string) string {
	plain := value != "" && !strings.ContainsFunc(value, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_./:,=+@%", r)
	})
	if plain {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

// Convert reads a properties file. getenv is for references to the environment;
// nil knows none. It fails only if the file is no properties file at all.
func Convert(text string, getenv func(string) string) (Report, error) {
	properties, err := Parse(text)
	if err != nil {
		return Report{}, err
	}
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	c := converter{values: map[string]string{}, line: map[string]int{}, referred: map[string]bool{}, rows: rows()}
	for _, p := range properties {
		c.values[p.Name], c.line[p.Name] = p.Value, p.Line
		for _, reference := range strings.Split(p.Value, "${")[1:] {
			name, _, _ := strings.Cut(reference, "}")
			c.referred[name] = true
		}
	}
	expand := &expander{values: c.values, getenv: getenv}
	expanded := map[string]string{}
	var failed []string
	for name, value := range c.values {
		if expanded[name], err = expand.expand(value, []string{name}); err != nil {
			failed = append(failed, name)
			c.at = Property{Name: name, Line: c.line[name]}
			c.note(Malformed, "%s", err)
		}
	}
	c.values = expanded
	_, listens := c.values["proxy.addr"]
	if !listens && len(properties) > 0 {
		c.values["proxy.addr"] = defaultListener
	}
	for _, p := range properties {
		c.at = p
		switch {
		case c.line[p.Name] != p.Line:
			c.note(Dead, "line %d gives it again, and that one counts", c.line[p.Name])
		case !slices.Contains(failed, p.Name):
			c.property(p.Name, expanded[p.Name])
		}
	}
	if !listens && len(properties) > 0 {
		c.at = Property{Name: "proxy.addr"}
		c.listeners(defaultListener)
		c.note(Elsewhere, "it is not in the file; this is Fabio's default, and the gateway's is the loopback alone")
	}
	slices.SortStableFunc(c.report.Notes, func(a, b Note) int { return a.Line - b.Line })
	return c.report, nil
}

// defaultListener is where Fabio listens if the file does not say. Who only moves the
// file must not find that nobody reaches the gateway.
const defaultListener = ":9999"

// where is the place of a property for people; line 0 is that it is not in the file.
func where(line int) string {
	if line == 0 {
		return "default"
	}
	return fmt.Sprintf("line %d", line)
}

// converter works through the properties one by one.
type converter struct {
	// values are all properties, expanded, and line is where each is.
	values map[string]string
	line   map[string]int
	// referred are the names that values refer to.
	referred map[string]bool
	rows     []row
	// bound are the addresses that are taken.
	bound  []config.Address
	at     Property
	report Report
}

func (c *converter) flag(name, value string) {
	c.report.Flags = append(c.report.Flags, Flag{Name: name, Value: value, Property: c.at.Name, Line: c.at.Line})
}

func (c *converter) note(kind Kind, format string, args ...any) {
	reason := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, fmt.Sprintf(format, args...))
	c.report.Notes = append(c.report.Notes, Note{Property: c.at.Name, Line: c.at.Line, Kind: kind, Reason: reason})
}

// property finds the row of a property and does what it says.
func (c *converter) property(name, value string) {
	for _, r := range c.rows {
		family, isFamily := strings.CutSuffix(r.name, "*")
		if r.name != name && (!isFamily || !strings.HasPrefix(name, family)) {
			continue
		}
		if r.convert != nil {
			r.convert(c, strings.TrimSpace(value))
		} else {
			c.note(r.kind, "%s", r.reason)
		}
		return
	}
	if c.referred[name] {
		c.note(Same, "other properties refer to it, and have its value")
		return
	}
	for _, r := range c.rows {
		if strings.EqualFold(r.name, name) {
			c.note(Unknown, "Fabio has no such property; is it %s?", r.name)
			return
		}
	}
	known := make([]string, 0, len(c.rows))
	for _, r := range c.rows {
		if !strings.HasSuffix(r.name, "*") {
			known = append(known, r.name)
		}
	}
	c.note(Unknown, "Fabio has no such property%s", config.Suggestion(name, known))
}
