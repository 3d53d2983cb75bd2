package route_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/route"
	"sluice/gateway/tag"
	"sluice/mesh"
)

// modelLookup is what Lookup promises, by looking at every route there is.
func modelLookup(routes []*route.Route, host, path string) *route.Route {
	host = strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, strings.ToValidUTF8(host, "?"))
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.Trim(host[i+1:], "0123456789") == "" {
		name, port = host[:i], host[i+1:]
	}
	name = strings.TrimSuffix(name, ".")
	type candidate struct {
		route *route.Route
		rank  []int
	}
	var all []candidate
	for _, r := range routes {
		h, ok := modelHost(r.Host, name, port)
		p, taken := modelPath(r.Key, path)
		if ok && taken && r.Kind == tag.HTTP {
			all = append(all, candidate{r, append(h, p...)})
		}
	}
	if len(all) == 0 {
		return nil
	}
	return slices.MinFunc(all, func(a, b candidate) int {
		return cmp.Or(slices.Compare(a.rank, b.rank), strings.Compare(a.route.Host, b.route.Host), strings.Compare(a.route.Path, b.route.Path))
	}).route
}

// modelHost returns the rank of a host that takes the request's.
func modelHost(pattern, name, port string) (rank []int, ok bool) {
	if pattern == "" {
		return []int{6, 0}, true
	}
	if name == "" {
		return nil, false
	}
	portless, own := tag.SplitPort(pattern)
	if own != "" && own != port {
		return nil, false
	}
	without := 0
	if own == "" {
		without = 1
	}
	suffix, wildcard := tag.Wildcard(portless)
	switch {
	case portless == name:
		return []int{without, 0}, !tag.IsPattern(portless)
	case wildcard:
		return []int{2 + without, -len(suffix)}, len(name) > len(suffix) && strings.HasSuffix(name, suffix)
	}
	p, err := tag.Compile(portless)
	return []int{4 + without, -tag.Ordinary(portless)}, err == nil && tag.IsPattern(portless) && p.Match(name)
}

// modelPath returns the rank of a path that takes the request's.
func modelPath(key route.Key, path string) (rank []int, ok bool) {
	p := key.Path
	switch key.Match {
	case tag.Exact:
		return []int{-len(p), 0, 0}, path == p
	case tag.Glob:
		pattern, err := tag.Compile(p)
		return []int{-pattern.Literal(), 1, -len(p)}, err == nil && pattern.Match(path)
	case tag.Segment:
		return []int{-len(p), 2, 0}, path == p || strings.HasPrefix(path, strings.TrimSuffix(p, "/")+"/")
	case tag.Prefix:
		return []int{-len(p), 3, 0}, strings.HasPrefix(path, p)
	}
	ok = len(path) >= len(p)
	for i := 0; ok && i < len(p); i++ {
		ok = tag.Lower(path[i]) == p[i]
	}
	return []int{-len(p), 4, 0}, ok
}

// The parts of which tags and requests are made by chance.
func chanceTag(r *rand.Rand) string {
	hosts := []string{"", "", "a.x", "b.x", "*.x", "*.a.x", "?.x", "a*", "*", "a.x:81", "*.x:81", "[ab].x", "{a,b}.a.x", "[::1]"}
	paths := []string{"/", "/a", "/a/", "/a/b", "/ab", "/abc", "/b"}
	options := []string{"", "", "", " match=segment", " match=exact", " match=iprefix", " weight=0.3", " auth=s", " allow=x", " colour=red", " strip=/a"}
	switch r.IntN(12) {
	case 0:
		return "urlprefix-:" + fmt.Sprint(81+r.IntN(2))
	case 1:
		return "urlprefix-" + []string{"a.x", "*.x", "*"}[r.IntN(3)] + " proto=tcp"
	case 2:
		return "urlprefix-" + hosts[r.IntN(len(hosts))] + []string{"/*", "/a*", "/*/b", "/a/{b,c}", "/?"}[r.IntN(5)] + " match=glob"
	case 3:
		return "v1"
	}
	return "urlprefix-" + hosts[r.IntN(len(hosts))] + paths[r.IntN(len(paths))] + options[r.IntN(len(options))]
}

func chanceInstances(t testing.TB, r *rand.Rand, service string) []mesh.Instance {
	var all []mesh.Instance
	for i := range r.IntN(4) {
		var tags []string
		for range r.IntN(5) {
			tags = append(tags, chanceTag(r))
		}
		all = append(all, instance(t, service, fmt.Sprint("n-", i), tags...))
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

func probes() (hosts, paths []string) {
	return []string{"", "a.x", "A.X.", "b.x:81", "c.a.x", "q.c.a.x:81", "a.a.x", "ax", "zz", "[::1]:81", ".x", "x"},
		[]string{"/", "/a", "/A", "/a/b", "/ab", "/abc/d", "/b", "/q/b", "/a/", ""}
}

func checkAgainstModel(t *testing.T, table *route.Table) {
	t.Helper()
	hosts, paths := probes()
	routes := table.Routes()
	for _, host := range hosts {
		for _, path := range paths {
			got, _ := table.Lookup(host, path)
			if want := modelLookup(routes, host, path); got != want {
				t.Fatalf("Lookup(%q, %q) = %+v, want %+v", host, path, got, want)
			}
			if e := table.Explain(host, path); e.Route != got {
				t.Fatalf("Explain(%q, %q) = %+v, want %+v", host, path, e, got)
			}
		}
	}
}

// checkSame compares two tables by all that they tell.
func checkSame(t *testing.T, got, want *route.Table) {
	t.Helper()
	if a, b := got.Routes(), want.Routes(); !reflect.DeepEqual(a, b) || got.Len() != len(b) || want.Len() != len(b) {
		t.Fatalf("%d routes (Len %d), want %d (Len %d)", len(a), got.Len(), len(b), want.Len())
	}
	if a, b := got.Problems(), want.Problems(); !reflect.DeepEqual(a, b) {
		t.Fatalf("problems\n%v\nwant\n%v", a, b)
	}
	if a, b := got.Listeners(), want.Listeners(); !slices.Equal(a, b) {
		t.Fatalf("listeners %v, want %v", a, b)
	}
	for _, name := range []string{"a.x", "b.x", "x", ""} {
		a, _ := got.LookupName(name)
		b, _ := want.LookupName(name)
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("server name %q leads to %+v, want %+v", name, a, b)
		}
	}
	for _, r := range got.Routes() {
		for i, target := range r.Targets {
			if len(r.Instances) != len(r.Targets) || target.Instance != &r.Instances[i] {
				t.Fatalf("the targets of %v are not its instances", r.Key)
			}
		}
	}
	checkAgainstModel(t, got)
}

// dropSecond removes every second target of a route and adds one of its own.
type dropSecond struct{ added []route.Key }

func (d *dropSecond) Added() []route.Key { return d.added }

func (d *dropSecond) Apply(key route.Key, targets []route.Target) []route.Target {
	var kept []route.Target
	for i, target := range targets {
		if i%2 == 0 && key.Path != "/ab" {
			kept = append(kept, target)
		}
	}
	if slices.Contains(d.added, key) {
		kept = append(kept, route.Target{Service: "added", Instance: &mesh.Instance{Address: "192.0.2.1:80"}, Options: &tag.Options{Proto: tag.ProtoHTTP, Plain: true}})
	}
	return kept
}

func TestAnySequenceOfUpdatesEqualsAFreshBuild(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint("seed-", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			catalog := map[string][]mesh.Instance{}
			table, rules := route.New(route.Config{}), route.Rules(nil)
			for step := range 16 {
				changed := map[string][]mesh.Instance{}
				for range 1 + r.IntN(3) {
					name := string(rune('a' + r.IntN(6)))
					changed[name] = chanceInstances(t, r, name)
					catalog[name] = changed[name]
				}
				if r.IntN(6) == 0 {
					rules = []route.Rules{nil, &dropSecond{}, &dropSecond{added: []route.Key{{Path: "/added"}, {Host: "a.x", Path: "/a"}}}}[r.IntN(3)]
				}
				before := table
				table, _ = table.WithRules(time.Time{}, rules)
				if r.IntN(3) == 0 {
					table = route.New(route.Config{Previous: before, Services: catalog, Rules: rules})
				} else {
					var changes []route.Change
					old := table.Routes()
					table, changes = table.Update(time.Time{}, changed)
					checkChanges(t, old, table.Routes(), changes)
				}
				checkSame(t, table, route.New(route.Config{Services: catalog, Rules: rules}))
				if t.Failed() {
					t.Fatalf("at step %d", step)
				}
			}
		})
	}
}

// checkChanges holds the reported changes against the routes before and after.
func checkChanges(t *testing.T, before, after []*route.Route, changes []route.Change) {
	t.Helper()
	all := map[route.Key]*route.Route{}
	for _, r := range before {
		all[r.Key] = r
	}
	for _, c := range changes {
		if c.Before != nil {
			if all[c.Before.Key] != c.Before {
				t.Fatalf("the change says %+v was there, and it was not", c.Before.Key)
			}
			delete(all, c.Before.Key)
		}
		if c.After != nil {
			all[c.After.Key] = c.After
		}
	}
	for _, r := range after {
		if all[r.Key] != r {
			t.Fatalf("no change tells of %+v", r.Key)
		}
		delete(all, r.Key)
	}
	if len(all) > 0 {
		t.Fatalf("routes went and no change tells: %v", all)
	}
}

// A route outlives its last instance by the time to keep it, to the moment.
func TestGoneRoutesAreKeptForTheirTimeAfterAnyUpdates(t *testing.T) {
	const keep = 10
	at := func(step int) time.Time { return time.Unix(int64(step), 0) }
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1))
		table := route.New(route.Config{Keep: keep * time.Second, Now: at(0)})
		catalog, gone := map[string][]mesh.Instance{}, map[route.Key]int{}
		live := func() map[route.Key]bool {
			keys := map[route.Key]bool{}
			for _, r := range route.New(route.Config{Services: catalog}).Routes() {
				keys[r.Key] = true
			}
			return keys
		}
		for step := 1; step < 40; step++ {
			before := live()
			name := string(rune('a' + r.IntN(3)))
			catalog[name] = chanceInstances(t, r, name)
			if r.IntN(2) == 0 {
				catalog[name] = nil
			}
			table, _ = table.Update(at(step), map[string][]mesh.Instance{name: catalog[name]})
			now := live()
			for key := range before {
				if !now[key] {
					gone[key] = step
				}
			}
			for key, since := range gone {
				if now[key] || step-since >= keep {
					delete(gone, key)
				}
			}
			for _, r := range table.Routes() {
				since, isGone := gone[r.Key]
				if now[r.Key] == isGone || isGone != !r.Gone.IsZero() || isGone && !r.Gone.Equal(at(since)) {
					t.Fatalf("seed %d, step %d: %v is gone since %v, want %v %d", seed, step, r.Key, r.Gone, isGone, since)
				}
			}
			if table.Len() != len(now)+len(gone) {
				t.Fatalf("seed %d, step %d: %d routes, want %d live and %d gone", seed, step, table.Len(), len(now), len(gone))
			}
			checkAgainstModel(t, table)
		}
	}
}

func FuzzLookup(f *testing.F) {
	f.Add("urlprefix-*.x/a match=segment|urlprefix-a.x/", "A.x.:80", "/a/b")
	f.Add("urlprefix-a*/a*b match=glob|urlprefix-/|urlprefix-/A match=iprefix|urlprefix-*/A", "ab", "/axb")
	f.Add("urlprefix-[::1]:8/|urlprefix-*.a.b.c/|urlprefix-*.c/x", "q.a.b.c:8", "/x")
	f.Fuzz(func(t *testing.T, tags, host, path string) {
		table := route.New(route.Config{Services: services(t, strings.Split(tags, "\n")[0], strings.Join(strings.Split(tags, "\n")[1:], "|"))})
		got, ok := table.Lookup(host, path)
		if want := modelLookup(table.Routes(), host, path); got != want || ok != (want != nil) {
			t.Fatalf("Lookup(%q, %q) = %+v, want %+v", host, path, got, want)
		}
		if e := table.Explain(host, path); e.Route != got {
			t.Fatalf("Explain(%q, %q) = %+v, want %+v", host, path, e, got)
		}
		for _, r := range table.Routes() {
			if _, ok := table.Lookup(r.Host, r.Path); !ok && r.Kind == tag.HTTP && r.Match != tag.Glob && !strings.ContainsAny(r.Host, "*?[{") {
				t.Fatalf("route %q does not take itself", r.Key)
			}
		}
	})
}
