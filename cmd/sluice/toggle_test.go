package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/intentions"
	"sluice/lab"
	"sluice/lab/control"
)

func TestARuleThatAMoreExactOneOverridesIsSaidToChangeNothing(t *testing.T) {
	allow := intentions.Rule{Source: "gateway", Destination: "web", Action: intentions.Allow}
	lockdown := intentions.Rule{Source: "*", Destination: "*", Action: intentions.Deny}
	set := intentions.NewSet([]intentions.Rule{allow, lockdown}, intentions.Deny)
	got := otherwise(set, lockdown)
	if len(got) != 1 || got[0].Source != "gateway" || got[0].Destination != "web" || !got[0].Allowed {
		t.Errorf("deny * *: decided otherwise are %v, want gateway -> web alone", got)
	}
	if got := otherwise(set, allow); got == nil || len(got) != 0 {
		t.Errorf("the rule that decides: %#v, want an empty list that is not nil", got)
	}
}

func TestWhatIsWrittenAndNotConfirmedNamesWhoIsLateAndTheFix(t *testing.T) {
	stopped := lab.PendingProcess{Process: "web-1/web", Reason: "stopped", Faulty: true}
	other := lab.PendingProcess{Process: "mongo-1/mongo-agent", Reason: "its agent is stopped", Faulty: true}
	slow := lab.PendingProcess{Process: "web-2/web", Reason: "still allowed"}
	cases := []struct {
		name       string
		of         enforcement
		text, hint string
	}{
		{
			"one is frozen",
			enforcement{by: []string{"a/b", "c/d"}, pending: []lab.PendingProcess{stopped}},
			"written to Consul; enforced by a/b, c/d; not yet by web-1/web (stopped)", "sluice fault heal web-1",
		},
		{
			"two nodes are ill",
			enforcement{pending: []lab.PendingProcess{stopped, other}},
			"written to Consul; enforced by nobody; not yet by web-1/web (stopped), mongo-1/mongo-agent (its agent is stopped)", "sluice fault heal --all",
		},
		{
			"one is slow",
			enforcement{by: []string{"a/b"}, pending: []lab.PendingProcess{slow}},
			"written to Consul; enforced by a/b; not yet by web-2/web (still allowed)", "sluice status",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			said := explained(t, streams{}, c.of.inconclusive(nil))
			if !strings.Contains(said, c.text+"\n") || !strings.Contains(said, "try: "+c.hint+"\n") {
				t.Errorf("said: %s", said)
			}
		})
	}
	if err := (enforcement{by: []string{"a/b"}}).inconclusive(nil); err != nil {
		t.Errorf("everybody has confirmed: %v", err)
	}
}

// explained is what the program says about an error.
func explained(t *testing.T, std streams, err error) string {
	t.Helper()
	file, openErr := os.Create(filepath.Join(t.TempDir(), "said"))
	if openErr != nil {
		t.Fatal(openErr)
	}
	defer file.Close()
	std.err = file
	explain(std, err)
	return content(t, file)
}

func TestAProposedCommandCanBeTypedAsItStands(t *testing.T) {
	std := streams{called: "bin/sluice"}
	for text, want := range map[string]string{
		"sluice up": "bin/sluice up",
		"see `sluice logs web-1`; or `sluice down`": "see `bin/sluice logs web-1`; or `bin/sluice down`",
		"heal it    (sluice status shows it)":       "heal it    (bin/sluice status shows it)",
		"another version of sluice: start it":       "another version of sluice: start it",
	} {
		if got := std.proposal(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
		if got := (streams{called: "sluice"}).proposal(text); got != text {
			t.Errorf("%q becomes %q for who called it sluice", text, got)
		}
	}
	said := explained(t, std, &usageError{command: "sluice status", cause: control.ErrNotRunning})
	if !strings.Contains(said, "try: bin/sluice status --help") {
		t.Errorf("said: %s", said)
	}
}
