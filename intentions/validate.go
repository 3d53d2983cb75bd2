package intentions

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Validate checks entries against each other and against the services that
// exist, and returns what it finds in the order of the files. Errors are
//
//   - a source or destination that is not in knownServices (any, if it is empty),
//   - two rules for one source, two entries for one destination: Consul keeps one,
//   - permissions on HTTP requests: a native service denies by them, always.
//
// Warnings are
//
//   - a rule that is shadowed: without it every edge between known services would
//     be decided the same by other rules,
//   - a file that is not named after its destination.
func Validate(entries []Entry, knownServices []string) Problems {
	v := validator{known: knownServices}
	destinations := map[string]Position{}
	for _, entry := range entries {
		v.destination(entry, destinations)
		v.sources(entry)
	}
	v.shadowed(entries)
	v.problems.sort()
	return v.problems
}

type validator struct {
	known    []string
	problems Problems
}

func (v *validator) add(severity Severity, at Position, fix, format string, args ...any) {
	v.problems = append(v.problems, Problem{severity, at, fmt.Sprintf(format, args...), fix})
}

func (v *validator) destination(entry Entry, seen map[string]Position) {
	name, at := entry.Destination, entry.Position
	v.service("destination", name, at)
	if before, twice := seen[name]; twice {
		v.add(Error, at, "write all sources of a destination into one file: the second entry would replace the first",
			"%s is also the destination of %s", name, before)
	} else {
		seen[name] = at
	}
	base := strings.TrimSuffix(filepath.Base(at.File), ".hcl")
	if at.File != "" && name != Wildcard && base != name {
		v.add(Warning, at, fmt.Sprintf("rename it to %s.hcl", name), "the file %s holds the intentions of %s", filepath.Base(at.File), name)
	}
}

func (v *validator) sources(entry Entry) {
	seen := map[string]Position{}
	for _, rule := range entry.Rules {
		v.service("source", rule.Source, rule.Position)
		if before, twice := seen[rule.Source]; twice {
			v.add(Error, rule.Position, "keep one of them: Consul refuses an entry that names a source twice",
				"%s has a second rule, beside %s", rule.Edge(), before)
		} else {
			seen[rule.Source] = rule.Position
		}
		if rule.L7 {
			v.add(Error, rule.Position, `replace Permissions by Action = "allow" or Action = "deny"`,
				"%s has permissions on HTTP requests, which a native service cannot judge: it would deny every connection", rule.Edge())
		}
	}
}

func (v *validator) service(side, name string, at Position) {
	if name == Wildcard || len(v.known) == 0 || slices.Contains(v.known, name) {
		return
	}
	fix := "use one of " + strings.Join(v.known, ", ")
	if word, ok := closest(name, v.known); ok {
		fix = "did you mean " + word + "?"
	}
	v.add(Error, at, fix, "the %s %q is no service of this mesh", side, name)
}

// shadowed warns of rules whose absence no pair of services would notice. The
// default is left out on purpose: a rule that says again what the default says
// still protects against a change of the default.
func (v *validator) shadowed(entries []Entry) {
	rules := Flatten(entries)
	services := v.universe(rules)
	for i, rule := range rules {
		if rule.Source == "" || rule.Destination == "" || v.duplicated(rules, i) {
			continue
		}
		others := slices.Delete(slices.Clone(rules), i, i+1)
		by, needed := coverage(rule, NewSet(others, Deny), services)
		if needed {
			continue
		}
		v.add(Warning, rule.Position, "remove it, or make it say what you mean",
			"the rule %s never makes a difference: its edges are decided the same by %s", rule.Edge(), strings.Join(by, ", "))
	}
}

// duplicated reports whether another rule speaks about exactly the same edge,
// which is an error of its own.
func (v *validator) duplicated(rules []Rule, i int) bool {
	for j, other := range rules {
		if j != i && other.Source == rules[i].Source && other.Destination == rules[i].Destination {
			return true
		}
	}
	return false
}

// coverage reports whether rule decides any edge that others would decide
// differently, and if it does not, which rules do its work.
func coverage(rule Rule, others Set, services []string) (by []string, needed bool) {
	with := NewSet(append(others.Rules(), rule), Deny)
	for _, source := range services {
		for _, destination := range services {
			if !rule.Matches(source, destination) {
				continue
			}
			without := others.Decide(source, destination)
			if without.Rule == nil || without.Allowed != with.Decide(source, destination).Allowed {
				return nil, true
			}
			if edge := without.Rule.Edge(); !slices.Contains(by, edge) {
				by = append(by, edge)
			}
		}
	}
	return by, false
}

// universe returns every service that can be a side of an edge: the known ones
// and those that rules name. If none are known, one that no rule names stands
// for all others.
func (v *validator) universe(rules []Rule) []string {
	services := slices.Clone(v.known)
	if len(services) == 0 {
		services = append(services, "(any other)")
	}
	for _, rule := range rules {
		for _, name := range []string{rule.Source, rule.Destination} {
			if name != "" && name != Wildcard && !slices.Contains(services, name) {
				services = append(services, name)
			}
		}
	}
	return services
}
