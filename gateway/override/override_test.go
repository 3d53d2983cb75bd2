package override_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/override"
	"sluice/gateway/route"
	"sluice/gateway/tag"
	"sluice/identity"
	"sluice/mesh"
)

func parse(lines ...string) *override.Commands {
	return override.Parse(override.Config{Datacenter: "dc1"}, override.Source{Name: "fabio/config", Text: strings.Join(lines, "\n")})
}

func instances(t testing.TB, service string, n int, tags ...string) []mesh.Instance {
	t.Helper()
	id, err := identity.New("11111111-2222-3333-4444-555555555555.consul", "dc1", service)
	if err != nil {
		t.Fatal(err)
	}
	var all []mesh.Instance
	for i := range n {
		all = append(all, mesh.Instance{ServiceID: fmt.Sprint(service, i), Node: fmt.Sprint("n", i), Address: fmt.Sprintf("10.0.0.%d:80", i), ID: id, Tags: tags})
	}
	return all
}

// show writes a table as "route service address share" lines.
func show(table *route.Table) string {
	var lines []string
	for _, r := range table.Routes() {
		for _, target := range r.Targets {
			lines = append(lines, fmt.Sprintf("%s %s %s %.2f", r.Key, target.Service, target.Instance.Address, target.Share))
		}
	}
	return strings.Join(lines, "\n")
}

func TestCommandsChangeWhatIsDiscovered(t *testing.T) {
	catalog := map[string][]mesh.Instance{
		"web":    instances(t, "web", 2, "urlprefix-/", "urlprefix-/web match=segment", "v1"),
		"canary": instances(t, "canary", 2, "urlprefix-/", "v2", "beta"),
	}
	const before = `/ canary 10.0.0.0:80 0.25
/ canary 10.0.0.1:80 0.25
/ web 10.0.0.0:80 0.25
/ web 10.0.0.1:80 0.25
`
	const web = `/web match=segment web 10.0.0.0:80 0.50
/web match=segment web 10.0.0.1:80 0.50`
	tests := []struct{ text, want string }{
		{"# nothing\n// nothing\n\n \t\n", before + web},
		{"route weight canary / weight 0.05", "/ canary 10.0.0.0:80 0.03\n/ canary 10.0.0.1:80 0.03\n/ web 10.0.0.0:80 0.47\n/ web 10.0.0.1:80 0.47\n" + web},
		{`route weight / weight 0.5 tags "v2"`, before + web},
		{`route weight / weight 1 tags "v2, beta"`, "/ canary 10.0.0.0:80 0.50\n/ canary 10.0.0.1:80 0.50\n/ web 10.0.0.0:80 0.00\n/ web 10.0.0.1:80 0.00\n" + web},
		{`route weight / weight 1 tags "v2,v1"`, before + web},
		{`route weight canary / weight 1 tags "v1"`, before + web},
		{"route weight canary / weight 1\nroute weight canary / weight -1", before + web},
		{"route weight none / weight 0.5", before + web},
		{"route del canary", "/ web 10.0.0.0:80 0.50\n/ web 10.0.0.1:80 0.50\n" + web},
		{"route del web /web", strings.TrimSpace(before)},
		{"route del web / http://10.0.0.1:80/", "/ canary 10.0.0.0:80 0.33\n/ canary 10.0.0.1:80 0.33\n/ web 10.0.0.0:80 0.33\n" + web},
		{"route del web / https://10.0.0.1:80/", before + web},
		{`route del web tags "v1"`, "/ canary 10.0.0.0:80 0.50\n/ canary 10.0.0.1:80 0.50"},
		{`route del web tags "v2"`, before + web},
		{`route del tags "v2"`, "/ web 10.0.0.0:80 0.50\n/ web 10.0.0.1:80 0.50\n" + web},
		{"route del web\nroute del canary\nroute add x /x http://192.0.2.1/", "/x x 192.0.2.1:80 1.00"},
		{"route add x /x http://192.0.2.1/\nroute del x", before + web},
		{"route del x\nroute add x /x http://192.0.2.1/", before + web + "\n/x x 192.0.2.1:80 1.00"},
		{"route add x / http://192.0.2.1/ weight 0.2\nroute add x / http://192.0.2.1/ weight 0.2\nroute del canary", "/ web 10.0.0.0:80 0.40\n/ web 10.0.0.1:80 0.40\n/ x 192.0.2.1:80 0.20\n" + web},
		{"nonsense\nroute del canary\nroute", "/ web 10.0.0.0:80 0.50\n/ web 10.0.0.1:80 0.50\n" + web},
	}
	for _, test := range tests {
		rules := parse(test.text)
		table := route.New(route.Config{Services: catalog, Rules: rules})
		if got := show(table); got != test.want {
			t.Errorf("%s\ngives\n%s\nwant\n%s\nproblems %v", test.text, got, test.want, rules.Problems())
		}
	}
}

func TestAddedRoute(t *testing.T) {
	tests := []struct{ line, key, options, address string }{
		{"route add svc /prefix http://1.2.3.4/", "/prefix", "plain=true", "1.2.3.4:80"},
		{"route add svc :1234 tcp://1.2.3.4:5678", ":1234", "proto=tcp plain=true", "1.2.3.4:5678"},
		{"route add svc db.example tcp://1.2.3.4:5678", "db.example proto=tcp", "proto=tcp plain=true", "1.2.3.4:5678"},
		{"route add svc /a grpc://h:1", "/a", "proto=grpc plain=true", "h:1"},
		{"route add svc /a http://[FE80::1]:8/", "/a", "plain=true", "[fe80::1]:8"},
		{`route add svc $DC.x/ http://1.2.3.4/ weight 0.2 opts "strip=/a  host=dst"`, "dc1.x/", "plain=true strip=/a host=dst", "1.2.3.4:80"},
		{"\troute  add\tsvc  /prefix  https://1.2.3.4/  weight  1.2  tags  \" a , b \"  opts  \"tlsskipverify=true\" ", "/prefix", "proto=https plain=true tlsskipverify=true", "1.2.3.4:443"},
		{`route add svc /a http://1.2.3.4/ opts "proto=https"`, "/a", "proto=https plain=true", "1.2.3.4:80"},
		{`route add svc /a https://x$path opts "redirect=301"`, "/a", "redirect=301,https://x$path", ""},
		{`route add tags /a http://1.2.3.4/ tags ""`, "/a", "plain=true", "1.2.3.4:80"},
		{`route add svc /a http://1.2.3.4/ opts "allow=ip:10.0.0.0/8"`, "/a match=segment", "plain=true allow=ip:10.0.0.0/8", "1.2.3.4:80"},
	}
	for _, test := range tests {
		rules := parse(test.line)
		if len(rules.Problems()) != 0 || len(rules.Added()) != 1 {
			t.Errorf("%s: %v", test.line, rules.Problems())
			continue
		}
		targets := rules.Apply(rules.Added()[0], nil)
		if len(targets) != 1 || rules.Added()[0].String() != test.key || targets[0].Options.String() != test.options || targets[0].Instance.Address != test.address {
			t.Errorf("%s\ngives %s to %+v with %q", test.line, rules.Added()[0], targets[0].Instance, targets[0].Options)
		}
	}
}

func TestABadLineIsQuarantinedAlone(t *testing.T) {
	tests := []struct{ line, reason string }{
		{"bang", "want route add"},
		{"route", "want route add"},
		{"route x", "want route add"},
		{`route "add" a /b http://c/`, "want route add"},
		{"route add", "want route add SERVICE"},
		{"route add svc /a", "want route add SERVICE"},
		{"route add svc /a b http://c/", "want route add SERVICE"},
		{"route add svc /a c", "want a URL"},
		{"route add svc /a ftp://c/", "want http"},
		{"route add svc /a http://c/path", "without a path"},
		{"route add svc /a http://c:0/", "port"},
		{"route add svc a http://c/", "no path"},
		{"route add svc :99 http://c/", "proto"},
		{"route add svc /a http://c/ weight x", "want a number"},
		{"route add svc /a http://c/ weight NaN", "want a number"},
		{`route add svc /a http://c/ opts "colour=red"`, "unknown"},
		{`route add svc /a http://c/ opts "allow=10.0.0.0/8"`, "ip:ADDRESS"},
		{`route add svc /a https://c/ opts "proto=grpc"`, "destination says"},
		{`route add svc /a https://c/ opts "redirect=301,https://d/"`, "code alone"},
		{`route add svc /a http://c/ opts "a=b" tags "c"`, "wrong place"},
		{`route add svc /a http://c/ tags "c" tags "d"`, "wrong place"},
		{`route add svc /a http://c/ tags "c`, "not closed"},
		{`route add svc /a http://c/ tags "c"d`, "blank after"},
		{`route add svc /a http://c/ tags c`, "want"},
		{`route add svc /a http://c/ # comment`, "want"},
		{"route del", "want route del"},
		{"route del a /b http://c/ d", "want route del"},
		{"route del a b..c/", "not a host name"},
		{"route del a /b c", "want a URL"},
		{"route del a weight 0.5", "neither weight"},
		{`route del tags ""`, "every route"},
		{`route del a /b tags "c"`, "want route del"},
		{"route weight", "want route weight"},
		{"route weight /a weight 0.5", "want route weight"},
		{"route weight svc /a 0.5", "want route weight"},
		{"route weight svc /a weight x", "want route weight"},
		{`route weight svc /a weight 0.5 tags ","`, "empty"},
		{"route del a\x00b", "control"},
		{"route del " + strings.Repeat("a", 5000), "longer"},
	}
	for _, test := range tests {
		rules := parse("route del good", "", test.line, "route del good")
		problems := rules.Problems()
		if len(problems) != 1 || problems[0].Line != 3 || problems[0].Source != "fabio/config" || !strings.Contains(problems[0].Reason, test.reason) || rules.Len() != 2 {
			t.Errorf("%.60s: %d commands, %+v; want line 3 alone quarantined with %q", test.line, rules.Len(), problems, test.reason)
		}
	}
}

func TestLinesAreCountedInEachSource(t *testing.T) {
	rules := override.Parse(override.Config{}, override.Source{Name: "a", Text: "\n\nx"}, override.Source{Name: "b", Text: "route del a\r\ny\r\n"})
	var got []string
	for _, p := range rules.Problems() {
		got = append(got, fmt.Sprint(p.Source, ":", p.Line))
	}
	if want := []string{"a:3", "b:2"}; !slices.Equal(got, want) || rules.Len() != 1 {
		t.Errorf("problems at %v, want %v", got, want)
	}
}

func TestCheckRefusesWhatTheGatewayCannotServe(t *testing.T) {
	rules := override.Parse(override.Config{Check: func(r tag.Route) error {
		if r.Options.Plain {
			return fmt.Errorf("plain upstreams are not allowed")
		}
		return nil
	}}, override.Source{Text: "route add a /b http://c/\nroute add a /b /c opts \"redirect=301\""})
	if p := rules.Problems(); len(p) != 1 || p[0].Line != 1 || !strings.Contains(p[0].Reason, "not allowed") || rules.Len() != 1 {
		t.Errorf("%d commands, problems %+v", rules.Len(), p)
	}
}

// A table that is updated under rules is the one that is built under them.
func TestUpdatesUnderCommandsEqualAFreshBuild(t *testing.T) {
	lines := []string{
		"route del a", "route del b /x", `route del tags "v1"`, "route weight c /x weight 0.3", `route weight /y weight 0.9 tags "v2"`,
		"route add d /x http://192.0.2.1/", "route add d /z http://192.0.2.2/ weight 0.4", "route del d /z",
	}
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		table, rules, catalog := route.New(route.Config{}), parse(), map[string][]mesh.Instance{}
		for range 20 {
			if r.IntN(4) == 0 {
				var chosen []string
				for range r.IntN(5) {
					chosen = append(chosen, lines[r.IntN(len(lines))])
				}
				rules = parse(chosen...)
			}
			name := string(rune('a' + r.IntN(4)))
			catalog[name] = instances(t, name, r.IntN(3), "urlprefix-/"+string(rune('x'+r.IntN(3))), fmt.Sprint("v", r.IntN(3)))
			table, _ = table.Update(time.Time{}, map[string][]mesh.Instance{name: catalog[name]})
			table, _ = table.WithRules(time.Time{}, rules)
			if got, want := show(table), show(route.New(route.Config{Services: catalog, Rules: rules})); got != want {
				t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"route add a b/c http://d/ weight 0.1 tags \"e,f\" opts \"strip=/c redirect=301\"", "route del a tags \"b\"", "route del tags \"b\"",
		"route weight a /b weight 0.1 tags \"c\"", "# x\n// y\n\nroute", "route weight /b weight -1 tags \"c\"",
	} {
		f.Add(seed)
	}
	catalog := map[string][]mesh.Instance{"a": instances(f, "a", 2, "urlprefix-/b", "b", "c")}
	f.Fuzz(func(t *testing.T, text string) {
		rules := parse(text)
		lines := 0
		for line := range strings.SplitSeq(text, "\n") {
			line = strings.TrimSpace(line)
			if line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "//") {
				lines++
			}
		}
		if rules.Len()+len(rules.Problems()) != lines {
			t.Fatalf("%d commands and %d problems of %d lines", rules.Len(), len(rules.Problems()), lines)
		}
		table := route.New(route.Config{Services: catalog, Rules: rules})
		for _, r := range table.Routes() {
			sum := 0.0
			for _, target := range r.Targets {
				sum += target.Share
			}
			if sum < 0.999 || sum > 1.001 {
				t.Fatalf("the shares of %s are %v", r.Key, sum)
			}
		}
	})
}
