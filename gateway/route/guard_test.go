package route_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice/gateway/route"
	"sluice/gateway/tag"
	"sluice/mesh"
)

func TestATagThatWasMeantAsAGuardClosesItsRoute(t *testing.T) {
	good, bad := "urlprefix-/admin auth=staff", "urlprefix-/admin allow=10.0.0.0/8"
	table := route.New(route.Config{Services: map[string][]mesh.Instance{"web": {
		instance(t, "web", "n-1", "urlprefix-/", bad),
	}}})
	r, ok := table.Lookup("", "/admin/x")
	if !ok || r.Closed == "" || len(r.Instances) != 0 || r.Admits(netip.MustParseAddr("10.0.0.1")) {
		t.Fatalf("the route is %+v, want it closed", r)
	}
	if got, _ := table.Lookup("", "/administrator"); got == nil || got.Closed != "" {
		t.Errorf("/administrator leads to %+v, want the open route of /", got)
	}
	if p := table.Problems(); len(p) != 1 || !p[0].Closed || !strings.Contains(p[0].Reason, "ip:ADDRESS") {
		t.Errorf("problems %+v, want one that closes and says why", p)
	}
	table, _ = table.Update(time.Time{}, map[string][]mesh.Instance{"web": {instance(t, "web", "n-1", bad), instance(t, "web", "n-2", good)}})
	if r, _ := table.Lookup("", "/admin"); r.Closed != "" || len(r.Instances) != 1 || r.Instances[0].Node != "n-2" {
		t.Errorf("with another instance that declares it well: %+v, want that one alone", r)
	}
}

// While an instance was meant to restrict the route, those that declare no
// restriction do not open it to everybody.
func TestAClosedRouteIsOpenedByAReadableGuardOnly(t *testing.T) {
	bad, plain, good := "urlprefix-/a/ match=segment allow=10.0.0.0/8", "urlprefix-/a/ match=segment", "urlprefix-/a/ match=segment allow=ip:10.0.0.0/8"
	table := route.New(route.Config{Services: services(t, bad, plain)})
	if r, _ := table.Lookup("", "/a/"); r == nil || r.Closed == "" || len(r.Instances) != 0 || strings.Join(r.Services, " ") != "a b" {
		t.Errorf("beside an instance without a guard the route is %+v, want it closed", r)
	}
	table, _ = table.Update(time.Time{}, services(t, bad, plain, good))
	r, _ := table.Lookup("", "/a/")
	if r.Closed != "" || len(r.Instances) != 2 || r.Admits(netip.MustParseAddr("192.0.2.1")) || !r.Admits(netip.MustParseAddr("10.0.0.1")) {
		t.Errorf("beside a readable guard the route is %+v, want that guard to hold", r)
	}
	table, _ = table.Update(time.Time{}, map[string][]mesh.Instance{"a": nil, "c": nil})
	if r, _ := table.Lookup("", "/a/"); r.Closed != "" || !r.Admits(netip.MustParseAddr("192.0.2.1")) {
		t.Errorf("without the instance that is at fault the route is %+v, want it open", r)
	}
}

func TestTheStrictestOfDifferentGuardsHolds(t *testing.T) {
	table := route.New(route.Config{Services: map[string][]mesh.Instance{"web": {
		instance(t, "web", "n-1", "urlprefix-/a/ match=segment allow=ip:10.0.0.0/8"), instance(t, "web", "n-2", "urlprefix-/a/ match=segment allow=ip:10.1.0.0/16"),
		instance(t, "web", "n-3", "urlprefix-/a/ match=segment"),
	}}})
	r, _ := table.Lookup("", "/a/")
	if !r.Mixed || r.Admits(netip.MustParseAddr("10.2.0.1")) || !r.Admits(netip.MustParseAddr("10.1.0.1")) {
		t.Errorf("%+v admits by another than the strictest list", r)
	}
}

func TestAnInstanceThatContradictsItselfIsNotServed(t *testing.T) {
	for _, tags := range []string{
		"urlprefix-/a/ match=prefix auth=x|urlprefix-/a/", "urlprefix-/a/|urlprefix-/a/ match=prefix auth=x", "urlprefix-/a/ match=prefix auth=x|urlprefix-/a/ match=prefix auth=y",
	} {
		table := route.New(route.Config{Services: services(t, tags)})
		if r, _ := table.Lookup("", "/a/"); r == nil || r.Closed == "" || len(table.Problems()) != 1 {
			t.Errorf("%q gives %+v, want it closed and reported", tags, r)
		}
	}
	table := route.New(route.Config{Services: services(t, "urlprefix-/a weight=0.1|urlprefix-/a weight=0.2")})
	if r, _ := table.Lookup("", "/a"); len(r.Targets) != 1 || r.Targets[0].Weight != 0.1 || len(table.Problems()) != 1 {
		t.Errorf("two weights give %+v, want the first, and a problem", r)
	}
}

func TestCheckQuarantinesWhatTheGatewayCannotServe(t *testing.T) {
	check := func(r tag.Route) error {
		if r.Options.Plain || r.Options.Auth != "" {
			return errors.New("cannot")
		}
		return nil
	}
	table := route.New(route.Config{Check: check, Services: services(t, "urlprefix-/a plain=true|urlprefix-/b auth=x|urlprefix-/c")})
	next, _ := table.Update(time.Time{}, services(t, "urlprefix-/d plain=true|urlprefix-/b auth=x|urlprefix-/c"))
	for _, table := range []*route.Table{table, next} {
		r, _ := table.Lookup("", "/b")
		if lookup(table, "", "/a")+lookup(table, "", "/d") != "" || r == nil || r.Closed != "cannot" || lookup(table, "", "/c") != "a" || len(table.Problems()) != 2 {
			t.Errorf("routes %v, problems %v", table.Routes(), table.Problems())
		}
	}
}
