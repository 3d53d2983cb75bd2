package route_test

import (
	"fmt"
	"strings"
	"testing"

	"sluice/gateway/route"
)

func TestExplainTellsWhatWasPassedOverAndWhy(t *testing.T) {
	table := route.New(route.Config{
		Services: services(t,
			"urlprefix-a.x.com/shop match=segment|urlprefix-a.x.com/cart match=exact|urlprefix-a.x.com/ab", "urlprefix-*.x.com/*/z match=glob", "urlprefix-?.x.*/SHOP match=iprefix",
			"urlprefix-b.x.com/|urlprefix-a.x.com:81/q|urlprefix-:99", "urlprefix-/|urlprefix-/shopping",
		),
		Rules: &dropSecond{},
	})
	e := table.Explain("A.x.com.:81", "/shopping/cart")
	var got []string
	for _, host := range e.Hosts {
		got = append(got, fmt.Sprintf("%q %s", host.Host, host.Reason))
		for _, p := range host.Paths {
			got = append(got, fmt.Sprintf("  %s %v %s", p.Path, p.Taken, p.Reason))
		}
	}
	want := `"a.x.com:81" it is the name and port 81
  /q false the path does not begin with "/q"
"a.x.com" it is the name
  /cart false the path is not exactly "/cart"
  /shop false the path goes on after "/shop" within the same segment
  /ab false the path does not begin with "/ab"
"*.x.com" the wildcard takes the name
  /*/z false the pattern "/*/z" does not cover the path
"?.x.*" the pattern takes the name
  /shop true the path fits, and every longer one was passed over`
	if strings.Join(got, "\n") != want || e.Route == nil || e.Route.Services[0] != "c" {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	if e := table.Explain("a.x.com", "/ab"); len(e.Hosts) == 0 || !strings.Contains(e.Hosts[0].Paths[2].Reason, "an override removed") || e.Route.Path != "/" {
		t.Errorf("a route that an override removed: %+v", e)
	}
	if e := table.Explain("x", "*"); e.Route != nil || len(e.Hosts) != 1 || e.Hosts[0].Host != "" {
		t.Errorf("no route: %+v", e)
	}
}

func TestExplainListsABoundedNumberOfPaths(t *testing.T) {
	var tags []string
	for i := range 300 {
		tags = append(tags, fmt.Sprintf("urlprefix-/long/path/%d", i))
	}
	table := route.New(route.Config{Services: services(t, strings.Join(append(tags, "urlprefix-/"), "|"))})
	e := table.Explain("", "/x")
	if len(e.Hosts) != 1 || len(e.Hosts[0].Paths) != 101 || e.Hosts[0].Omitted != 200 || e.Route == nil || e.Route.Path != "/" {
		t.Errorf("%d paths listed, %d omitted, route %v", len(e.Hosts[0].Paths), e.Hosts[0].Omitted, e.Route)
	}
}
