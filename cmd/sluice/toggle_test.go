package main

import (
	"strings"
	"testing"

	"sluice/intentions"
	"sluice/lab"
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
			"one is frozen", enforcement{by: []string{"a/b", "c/d"}, pending: []lab.PendingProcess{stopped}},
			"written to Consul; enforced by a/b, c/d; not yet by web-1/web (stopped)", "sluice fault heal web-1",
		},
		{
			"two nodes are ill", enforcement{pending: []lab.PendingProcess{stopped, other}},
			"written to Consul; enforced by nobody; not yet by web-1/web (stopped), mongo-1/mongo-agent (its agent is stopped)", "sluice fault heal --all",
		},
		{
			"one is slow", enforcement{by: []string{"a/b"}, pending: []lab.PendingProcess{slow}},
			"written to Consul; enforced by a/b; not yet by web-2/web (still allowed)", "sluice status",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var said strings.Builder
			err := c.of.inconclusive(nil)
			explain(&said, err)
			if !strings.Contains(said.String(), c.text+"\n") || !strings.Contains(said.String(), "try: "+c.hint+"\n") {
				t.Errorf("said: %s", said.String())
			}
		})
	}
	if err := (enforcement{by: []string{"a/b"}}).inconclusive(nil); err != nil {
		t.Errorf("everybody has confirmed: %v", err)
	}
}
