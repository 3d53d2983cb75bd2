package datacenters

import (
	"cmp"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a topology, with what to do about it.
type Problem struct {
	Position Position `json:"position,omitzero"`
	What     string   `json:"what"`
	Fix      string   `json:"fix"`
}

// String returns "file:line: what; fix".
func (p Problem) String() string {
	text := p.What
	if p.Fix != "" {
		text += "; " + p.Fix
	}
	if p.Position == (Position{}) {
		return text
	}
	return p.Position.String() + ": " + text
}

// Problems is everything that is wrong with a topology, in the order of the
// files. It is the error of Load and of Validate.
type Problems []Problem

// Error returns one line per problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// err returns the problems as an error, sorted; nil if there are none.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	sorted := slices.Clone(p)
	slices.SortStableFunc(sorted, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.Position.File, b.Position.File),
			cmp.Compare(a.Position.Line, b.Position.Line),
			cmp.Compare(a.What, b.What),
		)
	})
	return slices.Compact(sorted)
}
