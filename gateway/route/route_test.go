package route_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"sluice/gateway/route"
	"sluice/gateway/tag"
	"sluice/identity"
	"sluice/mesh"
)

func TestParseReturnsTheKey(t *testing.T) {
	key, err := route.Parse(route.DefaultPrefix, "urlprefix-Example.com/web strip=/web")
	if want := (route.Key{Host: "example.com", Path: "/web"}); err != nil || key != want {
		t.Errorf("Parse = %+v, %v; want %+v", key, err, want)
	}
	if key, err := route.Parse(route.DefaultPrefix, "urlprefix-/web allow=x"); err == nil || key != (route.Key{}) {
		t.Errorf("Parse of a refused tag = %+v, %v; want no key", key, err)
	}
	if _, err := route.Parse(route.DefaultPrefix, "v1"); !errors.Is(err, tag.ErrNotRoute) {
		t.Errorf("a tag without the prefix: %v, want ErrNotRoute", err)
	}
}

func instance(t testing.TB, service, node string, tags ...string) mesh.Instance {
	t.Helper()
	id, err := identity.New("11111111-2222-3333-4444-555555555555.consul", "dc1", service)
	if err != nil {
		t.Fatal(err)
	}
	return mesh.Instance{ServiceID: service + "-" + node, Node: node, Address: node + ":8000", ID: id, Tags: tags}
}

func table(t *testing.T) *route.Table {
	return route.New(route.Config{Services: map[string][]mesh.Instance{
		"web":   {instance(t, "web", "web-2", "urlprefix-/web", "urlprefix-/web"), instance(t, "web", "web-1", "urlprefix-/web", "v1")},
		"admin": {instance(t, "admin", "a-1", "urlprefix-/web/admin", "urlprefix-admin.example/", "urlprefix-bad")},
		"shop":  {instance(t, "shop", "s-1", "urlprefix-example.com/shop", "urlprefix-example.com:8443/shop/tls")},
		"also":  {instance(t, "also", "b-1", "urlprefix-/web")},
	}})
}

func TestLookup(t *testing.T) {
	tests := []struct{ host, path, want string }{
		{"localhost:9999", "/web", "also web"},
		{"localhost:9999", "/web/entries", "also web"},
		{"localhost:9999", "/website", "also web"}, // a plain prefix, as in Fabio
		{"localhost:9999", "/web/admin/x", "admin"},
		{"admin.example", "/anything", "admin"},
		{"ADMIN.example:80", "/", "admin"},
		{"admin.example:9999", "/", "admin"},
		{"example.com", "/shop/1", "shop"},
		{"example.com:8443", "/shop/tls", "shop"},
		{"example.com:8443", "/shop", "shop"},
		{"example.com", "/web", "also web"}, // falls through to the routes of no host
		{"example.com", "/none", ""},
		{"", "/web", "also web"},
		{"", "/", ""},
		{"localhost", "*", ""},
		{"localhost", "", ""},
	}
	table := table(t)
	for _, test := range tests {
		r, ok := table.Lookup(test.host, test.path)
		got := ""
		if ok {
			got = strings.Join(r.Services, " ")
		}
		if got != test.want {
			t.Errorf("Lookup(%q, %q) = %q, want %q", test.host, test.path, got, test.want)
		}
	}
}

func TestInstanceIsListedOnceAndInOrder(t *testing.T) {
	r, ok := table(t).Lookup("", "/web")
	if !ok {
		t.Fatal("no route")
	}
	var got []string
	for _, i := range r.Instances {
		got = append(got, i.Node)
	}
	if want := "b-1 web-1 web-2"; strings.Join(got, " ") != want {
		t.Fatalf("instances %v, want %v", got, want)
	}
}

func TestMalformedTagLosesOneRouteAndIsReported(t *testing.T) {
	problems := table(t).Problems()
	if len(problems) != 1 || problems[0].Service != "admin" || problems[0].Node != "a-1" || !strings.Contains(problems[0].Reason, "no path") {
		t.Fatalf("problems = %+v, want the one malformed tag of admin", problems)
	}
}

func TestEmptyTableRoutesNothing(t *testing.T) {
	var zero route.Table
	if _, ok := zero.Lookup("x", "/"); ok {
		t.Fatal("the zero table has a route")
	}
}

func TestRouteWithoutHealthyInstanceIsKeptForAWhileAndShadowsShorterOnes(t *testing.T) {
	start := time.Unix(1000, 0)
	full := table(t)
	without := func(previous *route.Table, now time.Time) *route.Table {
		return route.New(route.Config{
			Services: map[string][]mesh.Instance{"web": {instance(t, "web", "web-1", "urlprefix-/web")}},
			Previous: previous, Now: now, Keep: time.Minute,
		})
	}
	gone := without(without(full, start), start.Add(59*time.Second))
	r, ok := gone.Lookup("", "/web/admin")
	if !ok || len(r.Instances) != 0 || strings.Join(r.Services, " ") != "admin" || !r.Gone.Equal(start) {
		t.Fatalf("within the time: %+v, want the route of admin without instances, gone since %v", r, start)
	}
	if r, _ := without(gone, start.Add(time.Minute)).Lookup("", "/web/admin"); r == nil || strings.Join(r.Services, " ") != "web" {
		t.Fatalf("after the time: %+v, want the route of web", r)
	}
}

// services makes one service of one instance out of each list of tags, named
// a, b, c and so on.
func services(t testing.TB, tags ...string) map[string][]mesh.Instance {
	all := map[string][]mesh.Instance{}
	for i, list := range tags {
		name := string(rune('a' + i))
		all[name] = []mesh.Instance{instance(t, name, name+"-1", strings.Split(list, "|")...)}
	}
	return all
}

func lookup(table *route.Table, host, path string) string {
	r, ok := table.Lookup(host, path)
	if !ok {
		return ""
	}
	return strings.Join(r.Services, " ")
}

func TestTheMostSpecificHostAnswers(t *testing.T) {
	table := route.New(route.Config{Services: services(t,
		"urlprefix-www.example.com/", "urlprefix-*.example.com/", "urlprefix-*.com/", "urlprefix-www.*/", "urlprefix-www.ex*/p",
		"urlprefix-/", "urlprefix-www.example.com:8443/", "urlprefix-*.example.com:8443/", "urlprefix-*.b.example.com/b", "urlprefix-[::1]/",
	)})
	tests := []struct{ host, path, want string }{
		{"www.example.com", "/", "a"},
		{"WWW.Example.COM", "/", "a"},
		{"www.example.com.", "/", "a"},
		{"www.example.com:80", "/", "a"},
		{"www.example.com.:443", "/", "a"},
		{"www.example.com:8443", "/", "g"},
		{"www.example.com.:8443", "/", "g"},
		{"x.example.com", "/", "b"},
		{"x.y.example.com", "/", "b"},
		{"x.example.com:8443", "/", "h"},
		{"x.example.com:1", "/", "b"},
		{"x.b.example.com", "/b", "i"},
		{"x.b.example.com", "/c", "b"}, // on to the next wildcard
		{"example.com", "/", "c"},      // a wildcard takes names below only
		{"xexample.com", "/", "c"},
		{"com", "/", "f"},
		{"www.example.org", "/", "d"},
		{"www.example.org", "/p", "e"}, // more ordinary bytes
		{"[::1]", "/", "j"},
		{"[::1]:9999", "/", "j"},
		{"", "/", "f"},
		{":80", "/", "f"},
		{".", "/", "f"},
		{"..", "/", "f"},
	}
	for _, test := range tests {
		if got := lookup(table, test.host, test.path); got != test.want {
			t.Errorf("Lookup(%q, %q) = %q, want %q", test.host, test.path, got, test.want)
		}
	}
}

func TestAHostWithoutAFittingPathFallsThrough(t *testing.T) {
	table := route.New(route.Config{Services: services(t,
		"urlprefix-a.x.com/a", "urlprefix-a.x.com:81/p", "urlprefix-*.x.com/b", "urlprefix-*.com/c", "urlprefix-?.x.*/d", "urlprefix-/e",
	)})
	for path, want := range map[string]string{"/p": "b", "/a": "a", "/b": "c", "/c": "d", "/d": "e", "/e": "f", "/f": ""} {
		if got := lookup(table, "a.x.com:81", path); got != want {
			t.Errorf("path %q leads to %q, want %q", path, got, want)
		}
	}
}

func TestTheMostSpecificPathAnswers(t *testing.T) {
	table := route.New(route.Config{Services: services(t,
		"urlprefix-/", "urlprefix-/shop", "urlprefix-/shop match=segment", "urlprefix-/shop match=exact", "urlprefix-/shop/*/items match=glob",
		"urlprefix-/shop/c", "urlprefix-/SHOP/C match=iprefix", "urlprefix-/api/ match=segment", "urlprefix-/g* match=glob", "urlprefix-/g match=exact",
	)})
	tests := []struct{ path, want string }{
		{"/", "a"},
		{"/x", "a"},
		{"/shop", "d"},
		{"/shop/", "c"},
		{"/shop/x", "c"},
		{"/shopping", "b"},
		{"/shop/1/items", "e"},
		{"/shop/cart/items", "f"},
		{"/shop/cart", "f"},
		{"/Shop/cart", "g"},
		{"/shop/1/2/items", "e"},
		{"/api", "a"},
		{"/api/", "h"},
		{"/api/x", "h"},
		{"/g", "j"},
		{"/gg", "i"},
		{"*", ""},
		{"", ""},
	}
	for _, test := range tests {
		if got := lookup(table, "h", test.path); got != test.want {
			t.Errorf("path %q leads to %q, want %q", test.path, got, test.want)
		}
	}
}

func TestPortsAndServerNames(t *testing.T) {
	table := route.New(route.Config{Services: services(t,
		"urlprefix-:3306", "urlprefix-10.0.0.1:3306", "urlprefix-db.example.com proto=tcp", "urlprefix-*.example.com proto=tcp", "urlprefix-db.example.com/",
	)})
	name := func(r *route.Route, ok bool) string {
		if !ok {
			return ""
		}
		return strings.Join(r.Services, " ")
	}
	for address, want := range map[string]string{"127.0.0.1:3306": "a", "10.0.0.1:3306": "b", "[::1]:3306": "a", "10.0.0.1:3307": "", "": ""} {
		if got := name(table.LookupPort(address)); got != want {
			t.Errorf("a connection to %q goes to %q, want %q", address, got, want)
		}
	}
	for server, want := range map[string]string{"db.example.com": "c", "DB.example.com.": "c", "x.example.com": "d", "example.com": "", "": ""} {
		if got := name(table.LookupName(server)); got != want {
			t.Errorf("server name %q leads to %q, want %q", server, got, want)
		}
	}
	if got := strings.Join(table.Listeners(), " "); got != "10.0.0.1:3306 :3306" {
		t.Errorf("listeners %q", got)
	}
	if got := lookup(table, "db.example.com", "/"); got != "e" {
		t.Errorf("HTTP to db.example.com leads to %q, want e", got)
	}
}

func TestSharesOfWeights(t *testing.T) {
	tests := []struct {
		weights string // of the instances, in order; 0 is none
		want    string
	}{
		{"0", "1.00"},
		{"0 0", "0.50 0.50"},
		{"0.2 0 0", "0.20 0.40 0.40"},
		{"0.2 0.2", "0.50 0.50"},
		{"1 1 0", "0.50 0.50 0.00"},
		{"0.8 0.8", "0.50 0.50"},
		{"0.9 0.3 0", "0.75 0.25 0.00"},
		{"0.1", "1.00"},
		{"1 0", "1.00 0.00"},
	}
	for _, test := range tests {
		var instances []mesh.Instance
		for i, weight := range strings.Fields(test.weights) {
			instances = append(instances, instance(t, "w", fmt.Sprint("n", i), "urlprefix-/ weight="+weight))
		}
		table := route.New(route.Config{Services: map[string][]mesh.Instance{"w": instances}})
		r, _ := table.Lookup("", "/")
		var got []string
		sum := 0.0
		for _, target := range r.Targets {
			got = append(got, fmt.Sprintf("%.2f", target.Share))
			sum += target.Share
		}
		if strings.Join(got, " ") != test.want || math.Abs(sum-1) > 1e-9 || r.Mixed {
			t.Errorf("weights %q give %q, sum %v, mixed %v; want %q", test.weights, got, sum, r.Mixed, test.want)
		}
	}
}

func TestUpdateTellsWhatChangedAndSharesTheRest(t *testing.T) {
	start := time.Unix(1000, 0)
	table := route.New(route.Config{Services: services(t, "urlprefix-/a|urlprefix-/x", "urlprefix-/b"), Keep: time.Minute})
	before, _ := table.Lookup("", "/b")
	next, changes := table.Update(start, map[string][]mesh.Instance{"a": services(t, "urlprefix-/a|urlprefix-/y")["a"]})
	var got []string
	for _, c := range changes {
		switch {
		case c.Before == nil:
			got = append(got, "+"+c.After.Path)
		case c.After == nil:
			got = append(got, "-"+c.Before.Path)
		default:
			got = append(got, "~"+c.After.Path)
		}
	}
	// The instance's tags are part of it, so that /a is another route too.
	if want := "~/a ~/x +/y"; strings.Join(got, " ") != want {
		t.Errorf("changes %q, want %q", got, want)
	}
	if after, _ := next.Lookup("", "/b"); after != before {
		t.Error("the route of another service was built again")
	}
	if r, _ := table.Lookup("", "/x"); !r.Gone.IsZero() || table.Len() != 3 || next.Len() != 4 {
		t.Error("the table that was updated has changed itself")
	}
	if !next.Expires().Equal(start.Add(time.Minute)) {
		t.Errorf("expires %v, want a minute after the route went", next.Expires())
	}
	last, changes := next.Update(start.Add(time.Minute), nil)
	if len(changes) != 1 || changes[0].After != nil || !last.Expires().IsZero() || last.Len() != 3 {
		t.Errorf("after the time: %+v", changes)
	}
}

func TestWhatRulesTakeAwayIsNotGoneButNoMore(t *testing.T) {
	now := time.Unix(1000, 0)
	table := route.New(route.Config{
		Services: services(t, "urlprefix-/"), Rules: &dropSecond{added: []route.Key{{Path: "/added"}}}, Keep: time.Minute, Now: now,
	})
	if got := lookup(table, "", "/added"); got != "added" {
		t.Fatalf("the added route leads to %q", got)
	}
	table, changes := table.WithRules(now, nil)
	if got := lookup(table, "", "/added"); got != "a" || len(changes) != 1 || changes[0].After != nil {
		t.Errorf("without the rules it leads to %q, changes %+v; want the shorter route", got, changes)
	}
	// The instance of a route that rules had removed goes: nobody had been served.
	table, _ = table.Update(now, services(t, "urlprefix-/|urlprefix-/ab"))
	table, _ = table.WithRules(now, &dropSecond{})
	table, _ = table.Update(now, services(t, "urlprefix-/"))
	if got := lookup(table, "", "/ab"); got != "a" || table.Len() != 1 {
		t.Errorf("a removed route that went leads to %q", got)
	}
}

func TestRoutesOfAServiceWithTheSameOptionsShareThem(t *testing.T) {
	one := instance(t, "web", "web-1", "urlprefix-/a timeout=3s", "urlprefix-/b timeout=3s", "urlprefix-/c timeout=4s")
	two := instance(t, "web", "web-2", "urlprefix-/d timeout=3s")
	tb := route.New(route.Config{Services: map[string][]mesh.Instance{"web": {one, two}}})
	three := instance(t, "web", "web-3", "urlprefix-/e timeout=3s")
	options := func(path string) *tag.Options {
		r, ok := tb.Lookup("any.test", path)
		if !ok {
			t.Fatalf("no route for %s", path)
		}
		return r.Options
	}
	tb, _ = tb.Update(time.Now(), map[string][]mesh.Instance{"web": {one, two, three}})
	if a := options("/a"); a != options("/b") || a != options("/d") || a != options("/e") || a == options("/c") {
		t.Errorf("options of /a, /b, /c, /d, /e at %p, %p, %p, %p, %p", a, options("/b"), options("/c"), options("/d"), options("/e"))
	}
}
