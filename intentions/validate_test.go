package intentions

import (
	"slices"
	"testing"
)

func TestEachFaultBetweenRulesIsFound(t *testing.T) {
	at := func(file string, line int) Position { return Position{file, line} }
	entry := func(name string, rules ...Rule) Entry {
		for i := range rules {
			rules[i].Destination, rules[i].Position = name, at(name+".hcl", 5+i)
		}
		return Entry{Destination: name, Rules: rules, Position: at(name+".hcl", 2)}
	}
	allow := func(source string) Rule { return Rule{Source: source, Action: Allow} }
	deny := func(source string) Rule { return Rule{Source: source, Action: Deny} }
	moved := entry("web", allow("gateway"))
	moved.Position.File = "front.hcl"
	copied := entry("web", allow("gateway"))
	copied.Position.File = "web.hcl"

	cases := []struct {
		name    string
		entries []Entry
		known   []string
		want    []string // exactly these
	}{
		{"nothing wrong", []Entry{entry("web", allow("gateway")), entry("db", allow("web"))}, []string{"gateway", "web", "db"}, nil},
		{"no known services", []Entry{entry("web", allow("anything"))}, nil, nil},
		{
			"unknown source",
			[]Entry{entry("web", allow("gatway"))},
			[]string{"gateway", "web"},
			[]string{`web.hcl:5: the source "gatway" is no service of this mesh; did you mean gateway?`},
		},
		{
			"unknown destination",
			[]Entry{entry("blog", allow("gateway"))},
			[]string{"gateway", "web"},
			[]string{`blog.hcl:2: the destination "blog" is no service of this mesh; use one of gateway, web`},
		},
		{"wildcards are known", []Entry{entry("*", deny("*"))}, []string{"web"}, nil},
		{
			"source twice",
			[]Entry{entry("web", allow("gateway"), deny("gateway"))},
			[]string{"gateway", "web"},
			[]string{"web.hcl:6: gateway -> web has a second rule, beside web.hcl:5; keep one of them: Consul refuses an entry that names a source twice"},
		},
		{
			"destination twice",
			[]Entry{entry("web", allow("gateway")), copied},
			[]string{"gateway", "web"},
			[]string{"web.hcl:2: web is also the destination of web.hcl:2; write all sources of a destination into one file: the second entry would replace the first"},
		},
		{
			"file name",
			[]Entry{moved},
			[]string{"gateway", "web"},
			[]string{"front.hcl:2: warning: the file front.hcl holds the intentions of web; rename it to web.hcl"},
		},
		{
			"permissions",
			[]Entry{entry("web", Rule{Source: "gateway", L7: true})},
			[]string{"gateway", "web"},
			[]string{`web.hcl:5: gateway -> web has permissions on HTTP requests, which a native service cannot judge: it would deny every connection; replace Permissions by Action = "allow" or Action = "deny"`},
		},
		{
			"a wildcard that exact rules leave nothing",
			[]Entry{entry("db", allow("web"), deny("db"), deny("*"))},
			[]string{"web", "db"},
			[]string{
				"db.hcl:6: warning: the rule db -> db never makes a difference: its edges are decided the same by * -> db; remove it, or make it say what you mean",
				"db.hcl:7: warning: the rule * -> db never makes a difference: its edges are decided the same by web -> db, db -> db; remove it, or make it say what you mean",
			},
		},
		{
			"an exact rule that repeats a wildcard",
			[]Entry{entry("db", allow("web"), allow("*"))},
			[]string{"web", "db"},
			[]string{"db.hcl:5: warning: the rule web -> db never makes a difference: its edges are decided the same by * -> db; remove it, or make it say what you mean"},
		},
		{"an exact rule that differs from a wildcard", []Entry{entry("db", deny("web"), allow("*"))}, []string{"web", "db"}, nil},
		{"a wildcard destination under a wildcard source", []Entry{entry("db", deny("*")), entry("*", deny("web"))}, []string{"web", "db"}, nil},
		{"a denial like the default", []Entry{entry("db", deny("web"))}, []string{"web", "db"}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, problem := range Validate(c.entries, c.known) {
				if problem.Fix == "" || problem.Position.Line == 0 {
					t.Errorf("%+v has no fix or no line", problem)
				}
				got = append(got, problem.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestWarningsAreNoError(t *testing.T) {
	if err := (Problems{{Severity: Warning, What: "x"}}).Err(); err != nil {
		t.Errorf("got %v", err)
	}
	if err := (Problems{{Severity: Warning, What: "x"}, {Severity: Error, What: "y"}}).Err(); err == nil || err.Error() != "y" {
		t.Errorf("got %v", err)
	}
}
