package route_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"sluice/gateway/route"
	"sluice/identity"
	"sluice/mesh"
)

func TestParse(t *testing.T) {
	tests := []struct {
		tag  string
		want string // host|path, or "" for refused
	}{
		{"urlprefix-/web", "|/web"},
		{"urlprefix-/", "|/"},
		{" urlprefix-/web ", "|/web"},
		{"urlprefix-/Web/Case", "|/Web/Case"},
		{"urlprefix-Example.COM/", "example.com|/"},
		{"urlprefix-example.com/blog", "example.com|/blog"},
		{"urlprefix-example.com:80/blog", "example.com|/blog"},
		{"urlprefix-example.com:9999/blog", "example.com:9999|/blog"},
		{"urlprefix-/web proto=http", "|/web"},

		{"urlprefix-", ""},
		{"urlprefix- /web", ""},
		{"urlprefix-web", ""},
		{"urlprefix-:27017", ""},
		{"urlprefix-:80/x", ""},
		{"urlprefix-*.example.com/", ""},
		{"urlprefix-$DC.example.com/", ""},
		{"urlprefix-a..b/", ""},
		{"urlprefix--a/", ""},
		{"urlprefix-a:b/", ""},
		{"urlprefix-a:99999999/", ""},
		{"urlprefix-/web?x=1", ""},
		{"urlprefix-/web#x", ""},
		{"urlprefix-/we%62", ""},
		{"urlprefix-/web/../admin", ""},
		{"urlprefix-/web\x00", ""},
		{"urlprefix-/web\r\nX: y", ""},
		{"urlprefix-/web strip=/web", ""},
		{"urlprefix-/web allow=ip:10.0.0.0/8", ""},
		{"urlprefix-/web proto=tcp", ""},
		{"urlprefix-/" + strings.Repeat("a", 2000), ""},
	}
	for _, test := range tests {
		key, err := route.Parse(route.DefaultPrefix, test.tag)
		switch {
		case test.want == "" && (err == nil || errors.Is(err, route.ErrNotRoute)):
			t.Errorf("Parse(%q) = %v, %v; want it refused as malformed", test.tag, key, err)
		case test.want != "" && (err != nil || key.Host+"|"+key.Path != test.want):
			t.Errorf("Parse(%q) = %q|%q, %v; want %q", test.tag, key.Host, key.Path, err, test.want)
		}
	}
	if _, err := route.Parse(route.DefaultPrefix, "v1"); !errors.Is(err, route.ErrNotRoute) {
		t.Errorf("a tag without the prefix: %v, want ErrNotRoute", err)
	}
}

func instance(t *testing.T, service, node string, tags ...string) mesh.Instance {
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

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"urlprefix-/web", "urlprefix-h:80/p proto=http", "urlprefix-*/", "urlprefix-/a/../b", "x"} {
		f.Add(seed, "example.com", "/web/x")
	}
	id, err := identity.New("11111111-2222-3333-4444-555555555555.consul", "dc1", "web")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, tag, host, path string) {
		key, err := route.Parse(route.DefaultPrefix, tag)
		table := route.New(route.Config{Services: map[string][]mesh.Instance{"web": {{Node: "n", ID: id, Tags: []string{tag}}}}})
		r, ok := table.Lookup(host, path)
		if err != nil {
			if ok {
				t.Fatalf("refused tag %q routes %q %q", tag, host, path)
			}
			return
		}
		if !strings.HasPrefix(key.Path, "/") || strings.ContainsAny(key.Host+key.Path, " \t\r\n?#*") || route.HasDotSegment(key.Path) {
			t.Fatalf("Parse(%q) let through %q", tag, key)
		}
		again, err := route.Parse(route.DefaultPrefix, route.DefaultPrefix+key.String())
		if err != nil || again != key {
			t.Fatalf("Parse(%q) = %q, which parses as %q, %v", tag, key, again, err)
		}
		if ok && (!strings.HasPrefix(path, r.Path) || r.Key != key) {
			t.Fatalf("%q took path %q", tag, path)
		}
		if _, ok := table.Lookup(key.Host, key.Path); !ok {
			t.Fatalf("route %q does not match itself", key)
		}
	})
}
