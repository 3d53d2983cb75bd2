package intentions

import (
	"cmp"
	"slices"
	"strings"
)

// Severity says whether a Problem stops the intentions from being used.
type Severity string

// An Error must be mended first; a Warning is probably not what was meant.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Problem is one thing that is wrong with intentions, with what to do about it.
type Problem struct {
	Severity Severity `json:"severity"`
	Position Position `json:"position,omitzero"`
	What     string   `json:"what"`
	Fix      string   `json:"fix"`
}

// String returns "file:line: what; fix", marked if it is only a warning.
func (p Problem) String() string {
	text := p.What
	if p.Fix != "" {
		text += "; " + p.Fix
	}
	if p.Severity == Warning {
		text = "warning: " + text
	}
	if p.Position == (Position{}) {
		return text
	}
	return p.Position.String() + ": " + text
}

// Problems is everything that was found, in the order of the files.
type Problems []Problem

// Error returns one line per problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// Err returns the problems whose severity is Error as an error, or nil.
func (p Problems) Err() error {
	errs := slices.DeleteFunc(slices.Clone(p), func(q Problem) bool { return q.Severity != Error })
	if len(errs) == 0 {
		return nil
	}
	return errs
}

func (p Problems) sort() {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.Position.File, b.Position.File),
			cmp.Compare(a.Position.Line, b.Position.Line),
		)
	})
}

// closest returns the known word that given was probably meant to be, if any is
// within two edits of it.
func closest(given string, known []string) (string, bool) {
	best, distance := "", 3
	for _, word := range known {
		if d := edits(strings.ToLower(given), strings.ToLower(word)); d < distance && d < len(word) {
			best, distance = word, d
		}
	}
	return best, best != ""
}

// edits returns the Levenshtein distance of a and b, in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
