package intentions

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestPrecedenceIsThatOfConsulsDocumentation holds the table under "Precedence
// and match order" of Consul's service intentions, community edition rows.
func TestPrecedenceIsThatOfConsulsDocumentation(t *testing.T) {
	cases := []struct {
		source, destination string
		want                int
	}{
		{"web", "db", 9},
		{"*", "db", 8},
		{"web", "*", 6},
		{"*", "*", 5},
	}
	for _, c := range cases {
		if got := (Rule{Source: c.source, Destination: c.destination}).Precedence(); got != c.want {
			t.Errorf("%s -> %s has precedence %d, want %d", c.source, c.destination, got, c.want)
		}
	}
}

func TestTheMostExactRuleDecides(t *testing.T) {
	exact := Rule{Source: "web", Destination: "db", Action: Allow}
	anySource := Rule{Source: "*", Destination: "db", Action: Deny}
	anyDestination := Rule{Source: "web", Destination: "*", Action: Allow}
	any := Rule{Source: "*", Destination: "*", Action: Deny}
	cases := []struct {
		name    string
		rules   []Rule
		deflt   Action
		allowed bool
		by      string
	}{
		{"exact over all", []Rule{any, anyDestination, anySource, exact}, Deny, true, "web -> db"},
		{"destination over source", []Rule{any, anyDestination, anySource}, Deny, false, "* -> db"},
		{"source over any", []Rule{any, anyDestination}, Deny, true, "web -> *"},
		{"any over the default", []Rule{any}, Allow, false, "* -> *"},
		{"the default allows", nil, Allow, true, ""},
		{"the default denies", nil, Deny, false, ""},
		{"no default denies", nil, "", false, ""},
		{"an unknown default denies", nil, "Allow", false, ""},
		{"a rule without action denies", []Rule{{Source: "web", Destination: "db"}}, Allow, false, "web -> db"},
		{"a rule on HTTP requests denies", []Rule{{Source: "web", Destination: "db", L7: true}}, Allow, false, "web -> db"},
		{"a rule on HTTP requests denies even beside an action", []Rule{{Source: "web", Destination: "db", L7: true, Action: Allow}}, Allow, false, "web -> db"},
		{"of two rules for one edge the denial counts", []Rule{exact, {Source: "web", Destination: "db", Action: Deny}}, Allow, false, "web -> db"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			decision := NewSet(c.rules, c.deflt).Decide("web", "db")
			by := ""
			if decision.Rule != nil {
				by = decision.Rule.Edge()
			}
			if decision.Allowed != c.allowed || by != c.by {
				t.Errorf("got %v by %q, want %v by %q", decision.Allowed, by, c.allowed, c.by)
			}
		})
	}
	var zero Set
	if zero.Decide("web", "db").Allowed {
		t.Error("the zero set allows")
	}
}

func TestTheOrderOfRulesNeverChangesADecision(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		rules := someRules(random)
		before := NewSet(rules, Deny)
		random.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		after := NewSet(rules, Deny)
		if !before.Equal(after) {
			t.Fatalf("sets differ: %v, %v", before.Rules(), after.Rules())
		}
		for _, edge := range allEdges() {
			if a, b := before.Decide(edge[0], edge[1]), after.Decide(edge[0], edge[1]); a.String() != b.String() {
				t.Fatalf("%v: %s, shuffled %s", rules, a, b)
			}
			if decided := before.Decide(edge[0], edge[1]); decided.Allowed != before.Allows(edge[0], edge[1]) {
				t.Fatalf("%v: %s, but Allows says %v", rules, decided, !decided.Allowed)
			}
		}
	}
}

func TestALessExactRuleNeverChangesADecisionThatARuleMade(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		rules := someRules(random)
		added := someRule(random)
		before, after := NewSet(rules, Allow), NewSet(append(rules, added), Allow)
		for _, edge := range allEdges() {
			was := before.Decide(edge[0], edge[1])
			if was.Rule == nil || was.Rule.Precedence() <= added.Precedence() {
				continue
			}
			if is := after.Decide(edge[0], edge[1]); is.String() != was.String() {
				t.Fatalf("%v + %v: was %s, is %s", rules, added, was, is)
			}
		}
	}
}

func TestAnExplanationNamesTheRuleItsPlaceAndWhatItBeats(t *testing.T) {
	set := NewSet([]Rule{
		{Source: "*", Destination: "*", Action: Allow},
		{Source: "*", Destination: "db", Action: Deny, Position: Position{"db.hcl", 9}},
		{Source: "web", Destination: "db", Action: Allow, Description: "reads", Position: Position{"db.hcl", 5}},
		{Source: "api", Destination: "db", L7: true},
	}, Deny)
	explanation := Explain(set, "web", "db")
	if explanation.Precedence != 9 || len(explanation.Beats) != 2 || explanation.Beats[0].Edge() != "* -> db" {
		t.Errorf("got %+v", explanation)
	}
	text := explanation.String()
	for _, want := range []string{
		"web -> db is allowed by intention web -> db", "precedence 9 (both services are named), db.hcl:5", "reads",
		"beats  * -> db deny, precedence 8 (any source, the destination is named), db.hcl:9",
		"beats  * -> * allow, precedence 5", "else the default policy: deny",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
	if text := Explain(set, "api", "db").String(); !strings.Contains(text, "which a native service cannot judge") {
		t.Errorf("L7 is not said in words:\n%s", text)
	}
	nothing := Explain(NewSet(nil, Deny), "web", "db")
	if nothing.Precedence != 0 || !strings.Contains(nothing.String(), "no intention matches, so the default policy decides: deny") {
		t.Errorf("got:\n%s", nothing)
	}
}

// someRules returns random rules over few names, no two for the same edge.
func someRules(random *rand.Rand) []Rule {
	var rules []Rule
	for range random.IntN(8) {
		rule := someRule(random)
		if !slices.ContainsFunc(rules, func(r Rule) bool { return r.Edge() == rule.Edge() }) {
			rules = append(rules, rule)
		}
	}
	return rules
}

func someRule(random *rand.Rand) Rule {
	names := []string{"a", "b", "c", Wildcard}
	rule := Rule{Source: names[random.IntN(4)], Destination: names[random.IntN(4)]}
	switch random.IntN(5) {
	case 0:
		rule.L7 = true
	case 1, 2:
		rule.Action = Deny
	default:
		rule.Action = Allow
	}
	return rule
}

func allEdges() [][2]string {
	var edges [][2]string
	for _, source := range []string{"a", "b", "c", "d"} {
		for _, destination := range []string{"a", "b", "c", "d"} {
			edges = append(edges, [2]string{source, destination})
		}
	}
	return edges
}

func ExampleSet_Decide() {
	set := NewSet([]Rule{{Source: "web", Destination: "mongo-primary", Action: Deny}}, Deny)
	fmt.Println(set.Decide("web", "mongo-primary"))
	// Output: denied by intention web -> mongo-primary
}
