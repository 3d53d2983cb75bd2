package intentions

import (
	"fmt"
	"strings"
)

// Explanation says why an edge is allowed or denied.
type Explanation struct {
	Decision Decision `json:"decision"`
	// Precedence is that of the rule that decided; 0 means the default policy.
	Precedence int `json:"precedence"`
	// Beats are the other rules that speak about the edge, in the order in which
	// they would have decided. The last word, the default, is not among them.
	Beats   []Rule `json:"beats,omitempty"`
	Default Action `json:"default"`
}

// Explain decides about a connection from source to destination and says why.
func Explain(set Set, source, destination string) Explanation {
	explanation := Explanation{Decision: set.Decide(source, destination), Default: set.Default()}
	decided := false
	for _, rule := range set.rules {
		switch {
		case !rule.Matches(source, destination):
		case !decided:
			decided = true
			explanation.Precedence = rule.Precedence()
		default:
			explanation.Beats = append(explanation.Beats, rule)
		}
	}
	return explanation
}

// String returns the explanation for people, several lines without a last line
// break.
func (e Explanation) String() string {
	lines := []string{fmt.Sprintf("%s -> %s is %s", e.Decision.Source, e.Decision.Destination, e.Decision.String())}
	if rule := e.Decision.Rule; rule != nil {
		lines = append(lines, "  decided by   "+describe(*rule))
		if rule.Description != "" {
			lines = append(lines, "               "+rule.Description)
		}
	}
	for _, rule := range e.Beats {
		lines = append(lines, "  which beats  "+describe(rule))
	}
	last := "  no intention matches, so the default policy decides: "
	if e.Decision.Rule != nil {
		last = "  else the default policy: "
	}
	return strings.Join(append(lines, last+string(e.Default)), "\n")
}

// describe returns what a rule says, how exact it is, and where it is written.
func describe(r Rule) string {
	text := fmt.Sprintf("%s %s, precedence %d (%s)", r.Edge(), r.verb(), r.Precedence(), exactness(r))
	if r.Position != (Position{}) {
		text += ", " + r.Position.String()
	}
	return text
}

func exactness(r Rule) string {
	switch r.Precedence() {
	case 9:
		return "both services are named"
	case 8:
		return "any source, the destination is named"
	case 6:
		return "the source is named, any destination"
	default:
		return "any source, any destination"
	}
}
