package route_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"sluice/gateway/route"
	"sluice/identity"
	"sluice/mesh"
)

const pathsPerHost = 5

// catalog is routes over routes/5 hosts, each host a service of two instances, one
// host in ten a wildcard.
func catalog(tb testing.TB, routes int) map[string][]mesh.Instance {
	tb.Helper()
	all := map[string][]mesh.Instance{}
	for i := range routes / pathsPerHost {
		name := fmt.Sprintf("service-%d", i)
		id, err := identity.New("11111111-2222-3333-4444-555555555555.consul", "dc1", name)
		if err != nil {
			tb.Fatal(err)
		}
		var tags []string
		for p := range pathsPerHost {
			tags = append(tags, fmt.Sprintf("urlprefix-%s/path/%d", hostOf(i), p))
		}
		for n := range 2 {
			all[name] = append(all[name], mesh.Instance{
				ServiceID: fmt.Sprintf("%s-%d", name, n), Node: fmt.Sprintf("node-%d", n), Address: fmt.Sprintf("10.0.%d.%d:8000", i%256, n), ID: id, Tags: tags,
			})
		}
	}
	return all
}

func hostOf(i int) string {
	if i%10 == 9 {
		return fmt.Sprintf("*.tenant-%d.example.com", i)
	}
	return fmt.Sprintf("tenant-%d.example.com", i)
}

// requests are the hosts by which a catalog is asked for each of its services.
func requests(routes int) []string {
	var hosts []string
	for i := range routes / pathsPerHost {
		host := hostOf(i)
		if host[0] == '*' {
			host = "www" + host[1:]
		}
		hosts = append(hosts, host+":9999")
	}
	return hosts
}

func BenchmarkLookup(b *testing.B) {
	for _, routes := range []int{10, 10_000} {
		b.Run(fmt.Sprint(routes, "-routes"), func(b *testing.B) {
			table := route.New(route.Config{Services: catalog(b, routes)})
			hosts := requests(routes)
			if table.Len() != routes {
				b.Fatalf("%d routes", table.Len())
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok := table.Lookup(hosts[i*7919%len(hosts)], "/path/3/item"); !ok {
					b.Fatal("no route")
				}
			}
		})
	}
}

func BenchmarkLookupOfNoHost(b *testing.B) {
	table := route.New(route.Config{Services: map[string][]mesh.Instance{"web": {instance(b, "web", "n", "urlprefix-/web", "urlprefix-/")}}})
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := table.Lookup("127.0.0.1:9999", "/web/entries"); !ok {
			b.Fatal("no route")
		}
	}
}

// An instance of one service goes and comes back.
func BenchmarkOneChangeIn10000Routes(b *testing.B) {
	services := catalog(b, 10_000)
	table := route.New(route.Config{Services: services, Keep: time.Minute})
	whole := services["service-77"]
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		next, changes := table.Update(time.Unix(int64(i), 0), map[string][]mesh.Instance{"service-77": whole[:1+i%2]})
		if i > 0 && len(changes) != pathsPerHost {
			b.Fatalf("%d changes", len(changes))
		}
		table = next
	}
}

// The same through New, which is given the whole catalog each time.
func BenchmarkNewAfterOneChangeIn10000Routes(b *testing.B) {
	services := catalog(b, 10_000)
	table := route.New(route.Config{Services: services, Keep: time.Minute})
	whole := services["service-77"]
	for i := 0; b.Loop(); i++ {
		services["service-77"] = whole[:1+i%2]
		table = route.New(route.Config{Services: services, Keep: time.Minute, Previous: table, Now: time.Unix(int64(i), 0)})
	}
}

func BenchmarkBuild10000Routes(b *testing.B) {
	services := catalog(b, 10_000)
	for b.Loop() {
		route.New(route.Config{Services: services})
	}
}

// The memory of a table beside the catalog that it is made from.
func BenchmarkMemoryOf10000Routes(b *testing.B) {
	services := catalog(b, 10_000)
	live := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		before := live()
		table := route.New(route.Config{Services: services})
		b.ReportMetric(float64(live()-before)/1e6, "MB")
		runtime.KeepAlive(table)
	}
	runtime.KeepAlive(services)
}

func TestLookupAllocatesNothing(t *testing.T) {
	table := route.New(route.Config{Services: services(t,
		"urlprefix-a.example.com/", "urlprefix-*.example.com:8443/x match=segment", "urlprefix-a*b.org/", "urlprefix-/*/y match=glob", "urlprefix-/z match=iprefix", "urlprefix-n proto=tcp", "urlprefix-:1",
	)})
	n := testing.AllocsPerRun(100, func() {
		for _, host := range []string{"A.example.com.:80", "b.EXAMPLE.com:8443", "AxB.org", "[::1]:9", ""} {
			for _, path := range []string{"/", "/x/1", "/q/y", "/Z", ""} {
				table.Lookup(host, path)
			}
		}
		table.LookupName("N.")
		table.LookupPort("10.0.0.1:1")
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// tagged is a service whose routes are spread over the tags of a few instances.
func tagged(tb testing.TB, routes, instances int) []mesh.Instance {
	tb.Helper()
	all := make([]mesh.Instance, instances)
	for n := range all {
		all[n] = instance(tb, "web", fmt.Sprintf("node-%d", n))
		for i := n * routes / instances; i < (n+1)*routes/instances; i++ {
			all[n].Tags = append(all[n].Tags, fmt.Sprintf("urlprefix-%s/path/%d", hostOf(i/pathsPerHost), i%pathsPerHost))
		}
	}
	return all
}

// An instance with one route comes and goes beside four that have thousands each.
// As from Consul, no text is shared with the update before.
func BenchmarkOneChangeBeside10000TagsOfItsService(b *testing.B) {
	table := route.New(route.Config{Services: map[string][]mesh.Instance{"web": tagged(b, 10_000, 4)}, Keep: time.Minute})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		whole := tagged(b, 10_000, 4)
		if i%2 == 0 {
			whole = append(whole, instance(b, "web", "node-new", "urlprefix-change.example.com/"))
		}
		b.StartTimer()
		next, changes := table.Update(time.Unix(int64(i), 0), map[string][]mesh.Instance{"web": whole})
		if len(changes) != 1 {
			b.Fatalf("%d changes", len(changes))
		}
		table = next
	}
}

// One of many routes is looked up when nothing of it is in the processor's own
// caches, as it is after a request to another one: each iteration first walks over
// more memory than they hold. The time is that of the lookup alone.
func BenchmarkLookupCold(b *testing.B) {
	for _, routes := range []int{10, 10_000} {
		b.Run(fmt.Sprint(routes, "-routes"), func(b *testing.B) {
			table := route.New(route.Config{Services: catalog(b, routes)})
			hosts := requests(routes)
			other := make([]byte, 8<<20)
			var sum byte
			var took time.Duration
			for i := 0; b.Loop(); i++ {
				for at := 0; at < len(other); at += 64 {
					sum += other[at]
					other[at] = sum
				}
				host := hosts[i*7919%len(hosts)]
				began := time.Now()
				_, ok := table.Lookup(host, "/path/3/item")
				took += time.Since(began)
				if !ok {
					b.Fatal("no route")
				}
			}
			b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns/lookup")
		})
	}
}
