package override_test

import (
	"net/netip"
	"testing"
	"time"

	"sluice/gateway/override"
	"sluice/gateway/route"
	"sluice/mesh"
)

// A tag that was meant to restrict its route, and cannot be read, closes it. An
// instance that an operator adds declares no restriction, and so opens nothing.
func TestAnAddedInstanceDoesNotOpenARouteThatAMalformedGuardCloses(t *testing.T) {
	parse := func(line string) route.Rules {
		commands := override.Parse(override.Config{}, override.Source{Name: "k", Text: line})
		if problems := commands.Problems(); len(problems) > 0 {
			t.Fatal(problems)
		}
		return commands
	}
	web := mesh.Instance{ServiceID: "web-1", Node: "n-1", Address: "10.0.0.1:80", Tags: []string{"urlprefix-/admin allow=10.0.0.0/8"}}
	catalog := map[string][]mesh.Instance{"web": {web}}
	stranger, friend := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.0.0.9")

	open := parse(`route add web /admin http://10.0.0.2:80/ opts "match=segment"`)
	table, _ := route.New(route.Config{Services: catalog}).WithRules(time.Time{}, open)
	if r, _ := table.Lookup("", "/admin"); r == nil || r.Closed == "" || r.Admits(stranger) || len(r.Targets) != 0 {
		t.Errorf("beside a malformed guard the route is %+v, want it closed", r)
	}
	guarded := parse(`route add web /admin http://10.0.0.2:80/ opts "allow=ip:10.0.0.0/8"`)
	table, _ = table.WithRules(time.Time{}, guarded)
	if r, _ := table.Lookup("", "/admin"); r == nil || r.Closed != "" || r.Admits(stranger) || !r.Admits(friend) {
		t.Errorf("with a readable guard the route is %+v, want that guard to hold", r)
	}
	// Without the one that can be read, the one that cannot closes the route again.
	other := map[string][]mesh.Instance{
		"web": {web}, "old": {{ServiceID: "old-1", Node: "n-2", Address: "10.0.0.3:80", Tags: []string{"urlprefix-/admin match=segment"}}},
		"new": {{ServiceID: "new-1", Node: "n-3", Address: "10.0.0.4:80", Tags: []string{"urlprefix-/admin allow=ip:10.0.0.0/8"}}},
	}
	without, _ := route.New(route.Config{Services: other}).WithRules(time.Time{}, parse("route del new /admin"))
	if r, _ := without.Lookup("", "/admin"); r == nil || r.Closed == "" || r.Admits(stranger) {
		t.Errorf("without the instance that guards it well the route is %+v, want it closed", r)
	}
	web.Tags = []string{"urlprefix-/admin match=segment"}
	table, _ = table.WithRules(time.Time{}, open)
	table, _ = table.Update(time.Time{}, map[string][]mesh.Instance{"web": {web}})
	if r, _ := table.Lookup("", "/admin"); r == nil || r.Closed != "" || len(r.Targets) != 2 {
		t.Errorf("with the tag corrected the route is %+v, want it open", r)
	}
}
