package intentions

import (
	"cmp"
	"fmt"
	"slices"
)

// Wildcard matches every service, as a source or as a destination.
const Wildcard = "*"

// Action is what an intention does with a connection.
type Action string

// The two actions of a layer 4 intention.
const (
	Allow Action = "allow"
	Deny  Action = "deny"
)

// Position is where a rule was written. The zero Position means "not from a
// file", for example read back from Consul.
type Position struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// String returns "file:line", or "" for the zero Position.
func (p Position) String() string {
	if p == (Position{}) {
		return ""
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Rule is one intention: what happens to a connection from Source to
// Destination.
type Rule struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	// Action is empty exactly when L7 is set.
	Action Action `json:"action,omitempty"`
	// L7 says that the intention carries permissions on HTTP requests. A native
	// service sees connections, not requests, so such an intention denies it
	// (Consul: agent/agent_endpoint.go, AgentConnectAuthorize).
	L7          bool     `json:"l7,omitempty"`
	Description string   `json:"description,omitempty"`
	Position    Position `json:"position,omitzero"`
}

// Precedence ranks the rule by how exact it is: 9 both sides named, 8 any source
// to a named destination, 6 a named source to any destination, 5 any to any
// (Consul documentation, "Service intentions: precedence and match order").
func (r Rule) Precedence() int {
	switch {
	case r.Destination != Wildcard && r.Source != Wildcard:
		return 9
	case r.Destination != Wildcard:
		return 8
	case r.Source != Wildcard:
		return 6
	default:
		return 5
	}
}

// Matches reports whether the rule speaks about a connection from source to
// destination.
func (r Rule) Matches(source, destination string) bool {
	return (r.Source == Wildcard || r.Source == source) &&
		(r.Destination == Wildcard || r.Destination == destination)
}

// allows reports what the rule does to a connection of a native service.
func (r Rule) allows() bool { return r.Action == Allow && !r.L7 }

// verb says in one word, or a few, what the rule does.
func (r Rule) verb() string {
	switch {
	case r.L7:
		return "deny (HTTP permissions)"
	case r.Action == "":
		return "deny (no action)"
	default:
		return string(r.Action)
	}
}

// Edge returns "source -> destination".
func (r Rule) Edge() string { return r.Source + " -> " + r.Destination }

// Set is an immutable set of rules in Consul's order of precedence, with the
// default that holds where no rule matches. The zero Set denies everything.
type Set struct {
	rules         []Rule
	defaultAction Action
	// overlay denies whatever the rules say.
	overlay Overlay
}

// NewSet returns the set of rules with the given default. Anything but Allow as
// the default is Deny. The order of rules does not matter; of two rules for one
// edge, which Consul never holds, the one that denies counts.
func NewSet(rules []Rule, defaultAction Action) Set {
	ordered := slices.Clone(rules)
	slices.SortStableFunc(ordered, func(a, b Rule) int {
		return cmp.Or(
			cmp.Compare(b.Precedence(), a.Precedence()),
			cmp.Compare(a.Destination, b.Destination),
			cmp.Compare(a.Source, b.Source),
			compareStrict(a, b),
		)
	})
	return Set{rules: ordered, defaultAction: defaultAction}
}

// compareStrict orders a rule that denies before one that allows.
func compareStrict(a, b Rule) int {
	switch {
	case a.allows() == b.allows():
		return 0
	case a.allows():
		return 1
	default:
		return -1
	}
}

// Rules returns the rules, most exact first. The caller owns the slice.
func (s Set) Rules() []Rule { return slices.Clone(s.rules) }

// Default returns the action where no rule matches.
func (s Set) Default() Action {
	if s.defaultAction == Allow {
		return Allow
	}
	return Deny
}

// Equal reports whether both sets decide by the same rules; positions and
// descriptions do not count.
func (s Set) Equal(other Set) bool {
	return s.Default() == other.Default() && s.overlay.Equal(other.overlay) &&
		slices.EqualFunc(s.rules, other.rules, func(a, b Rule) bool {
			return a.Source == b.Source && a.Destination == b.Destination &&
				a.Action == b.Action && a.L7 == b.L7
		})
}

// Decision is the verdict on one edge, with its reason.
type Decision struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Allowed     bool   `json:"allowed"`
	// Rule is the intention that decided; nil means that no intention matches
	// and the default policy decided.
	Rule *Rule `json:"rule,omitempty"`
	// Denial is what the datacenter's overlay says; then no Rule decided.
	Denial *Denial `json:"break_glass,omitempty"`
}

// Decide returns the verdict on a connection from source to destination: a denial of
// the overlay, else the first rule that matches, in order of precedence, else the default. It agrees
// with a Consul agent's authorize endpoint; a differential test holds it to that.
func (s Set) Decide(source, destination string) Decision {
	if denial := s.denied(source, destination); denial != nil {
		said := *denial
		return Decision{Source: source, Destination: destination, Denial: &said}
	}
	d := Decision{Source: source, Destination: destination, Allowed: s.Default() == Allow}
	for i := range s.rules {
		if s.rules[i].Matches(source, destination) {
			rule := s.rules[i]
			d.Rule = &rule
			d.Allowed = rule.allows()
			break
		}
	}
	return d
}

// Allows reports what Decide would decide, and allocates nothing.
func (s Set) Allows(source, destination string) bool {
	if s.denied(source, destination) != nil {
		return false
	}
	for i := range s.rules {
		if s.rules[i].Matches(source, destination) {
			return s.rules[i].allows()
		}
	}
	return s.Default() == Allow
}

// String says the verdict and what decided it, in one line, for example
// "denied by intention web -> mongo-primary".
func (d Decision) String() string {
	verdict := "denied"
	if d.Allowed {
		verdict = "allowed"
	}
	switch {
	case d.Denial != nil:
		return "denied: " + d.Denial.String()
	case d.Rule == nil:
		return fmt.Sprintf("%s by the default policy: no intention matches %s -> %s", verdict, d.Source, d.Destination)
	case d.Rule.L7:
		return fmt.Sprintf("%s by intention %s: it carries HTTP permissions, which a native service cannot judge, so it denies every connection", verdict, d.Rule.Edge())
	default:
		return fmt.Sprintf("%s by intention %s", verdict, d.Rule.Edge())
	}
}
