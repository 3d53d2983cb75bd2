package difference_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// datacenter is where everything happens; it is what $DC stands for.
const datacenter = "dc1"

// prefix marks a tag as a route.
const prefix = "urlprefix-"

// flaw is what a generated tag has that Fabio lets pass.
type flaw int

const (
	sound flaw = iota
	// slip is an option that is unknown, malformed or pointless.
	slip
	// openGuard is a slip in what restricts who may use the route.
	openGuard
	// pathless is a route without a path that is not for TCP.
	pathless
	// garbled is a weight that is no number.
	garbled
)

// routeTag is a tag as the corpus makes it, without its prefix.
type routeTag struct {
	host, path, options string
	flaw                flaw
}

func (r routeTag) String() string {
	return strings.TrimSpace(prefix + r.host + r.path + " " + r.options)
}

func (r routeTag) guarded() bool {
	return strings.Contains(r.options, "allow=") || strings.Contains(r.options, "deny=") || r.flaw == openGuard
}

// registered is the tag as both are given it: without Connect, which Fabio does not
// know, and which it takes for an option that means nothing.
func (r routeTag) registered() string {
	if strings.Contains(r.options, "redirect=") {
		return r.String()
	}
	return r.String() + " plain=true"
}

// service is a service with one instance.
type service struct {
	name string
	tags []routeTag
}

// request is what a client asks. Its address is a loopback one.
type request struct {
	host, target string
	forwarded    string // X-Forwarded-For, if not ""
}

func (r request) String() string {
	if r.forwarded != "" {
		return fmt.Sprintf("http://%s%s for %s", r.host, r.target, r.forwarded)
	}
	return "http://" + r.host + r.target
}

// world is a catalog, and what is asked of it.
type world struct {
	services []service
	requests []request
}

func (w world) String() string {
	var b strings.Builder
	for _, s := range w.services {
		for _, t := range s.tags {
			fmt.Fprintf(&b, "\n\t%s: %s", s.name, t)
		}
	}
	return b.String()
}

// garbled reports whether a tag of the world is.
func (w world) garbled() bool {
	return slices.ContainsFunc(w.services, func(s service) bool {
		return slices.ContainsFunc(s.tags, func(t routeTag) bool { return t.flaw == garbled })
	})
}

func serviceName(i int) string { return fmt.Sprint("svc-", i) }

// services is how many there are in a world, at most.
const services = 5

// corpus returns the worlds by hand, which provoke each difference, and generated
// ones.
func corpus(seed uint64) []world {
	worlds := byHand()
	r := rand.New(rand.NewPCG(seed, 1))
	for range 36 {
		worlds = append(worlds, generated(r))
	}
	return worlds
}

// places are hosts that tags name, each with hosts of requests that it might take.
func places() map[string][]string {
	return map[string][]string{
		"":                  {"any.test", "10.0.0.1", "localhost:9999"},
		"a.test":            {"a.test", "A.Test", "a.test:80", "a.test:8080", "a.test.", "xa.test", "a.testx"},
		"A.TEST":            {"a.test", "A.TEST"},
		"a.test:8080":       {"a.test:8080", "a.test:8081", "a.test"},
		"a.test:80":         {"a.test", "a.test:80"},
		"b.a.test":          {"b.a.test", "B.A.Test", "b.a.test:443"},
		"web1.test":         {"web1.test", "web2.test"},
		"*.test":            {"a.test", "web1.test", "c.b.a.test", "test"},
		"*.a.test":          {"b.a.test", "c.b.a.test", "a.test", "B.A.TEST", "b.a.test:8080", "b.a.test."},
		"*.b.a.test":        {"c.b.a.test", "b.a.test"},
		"w*.test":           {"web1.test", "w.test", "web1.b.test"},
		"web?.test":         {"web1.test", "web22.test", "web.test"},
		"{web1,web2}.test":  {"web1.test", "web2.test", "web3.test"},
		"$DC.test":          {"dc1.test", "dc2.test"},
		"*":                 {"anything", "a.test"},
		"srv.${DC}.example": {"srv.dc1.example", "SRV.DC1.EXAMPLE:80"},
	}
}

func prefixes() []string {
	return []string{"/", "/a", "/ab", "/a/", "/a/b", "/a/b/", "/a/b/c", "/Shop", "/$DC/x"}
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// options returns the options for a path, and what is wrong with them.
func options(r *rand.Rand, path string) (string, flaw) {
	switch r.IntN(24) {
	case 0, 1:
		return "strip=" + strings.TrimSuffix(path, "/") + suffix(path), sound
	case 2:
		return "prepend=/v1", sound
	case 3:
		return "strip=" + path + " prepend=/v2", sound
	case 4:
		return "host=inner.test", sound
	case 5:
		return "host=dst", sound
	case 6:
		return "redirect=301,https://new.test$path", sound
	case 7:
		return "redirect=302,https://new.test/fixed?x=1", sound
	case 8:
		return "redirect=308,https://$host/moved$path", sound
	case 9:
		return "strip=" + path + " redirect=307,http://new.test/$path", sound
	case 10, 11:
		return "allow=ip:" + pick(r, []string{"127.0.0.0/8", "10.0.0.0/8", "192.0.2.7,ip:127.0.0.1"}), sound
	case 12, 13:
		return "deny=ip:" + pick(r, []string{"127.0.0.0/8", "10.0.0.0/8", "::1", "192.0.2.0/24"}), sound
	case 14:
		if path != "/" && r.IntN(5) == 0 {
			return "strip=/nowhere", slip
		}
		if r.IntN(8) == 0 {
			return "weight=lots", garbled
		}
		return pick(r, []string{"wieght=0.5", "timeout=soon", "redirect=301", "weight=2", "pxyproto=true"}), slip
	case 15:
		return pick(r, []string{"deny=127.0.0.0/8", "allow=ip:nonsense", "allow=ip:10.0.0.0/8 deny=ip:10.0.0.0/8"}), openGuard
	case 16:
		return "proto=http", sound
	}
	return "", sound
}

// suffix keeps the path of a strip from being empty.
func suffix(path string) string {
	if path == "/" {
		return "/"
	}
	return ""
}

func generated(r *rand.Rand) world {
	hosts := sorted(places())
	var w world
	byKey := map[string]routeTag{}
	for i := range 2 + r.IntN(services-1) {
		s := service{name: serviceName(i)}
		taken := map[string]bool{}
		for range 1 + r.IntN(5) {
			t := routeTag{host: pick(r, hosts), path: pick(r, prefixes())}
			if r.IntN(3) == 0 {
				t.host = ""
			}
			key := strings.ToLower(strings.TrimSuffix(t.host, ":80")) + t.path
			if known, ok := byKey[key]; ok {
				t = known // whoever shares a route agrees on it
			} else {
				t.options, t.flaw = options(r, strings.ReplaceAll(t.path, "$DC", datacenter))
				byKey[key] = t
			}
			if taken[key] {
				continue
			}
			taken[key] = true
			if t.flaw == sound && !strings.Contains(t.options, "redirect=") && r.IntN(4) == 0 {
				t.options = strings.TrimSpace(t.options + fmt.Sprint(" weight=", pick(r, []string{"0", "0.3", "0.7", "1"})))
			}
			s.tags = append(s.tags, t)
		}
		w.services = append(w.services, s)
	}
	for range 14 {
		w.requests = append(w.requests, ask(r, w))
	}
	return w
}

// ask makes a request that is meant for one of the tags, more or less.
func ask(r *rand.Rand, w world) request {
	t := pick(r, pick(r, w.services).tags)
	q := request{host: pick(r, places()[t.host]), target: strings.ReplaceAll(t.path, "$DC", datacenter)}
	q.target += pick(r, []string{"", "", "x", "/x", "/x/y?q=1", "b", "/", "%20x", "?q=1&r=%2F"})
	switch r.IntN(16) {
	case 0:
		q.target = pick(r, []string{"/a%2Fb", "/%61", "/a/b%2fc", "/ab%3Fx"})
	case 1:
		q.target = pick(r, []string{"/a/../b", "/a/./b", "/..", "/a//b", "//a"})
	case 2:
		q.target = pick(r, []string{"/nothing/here", "/shop", "/Shop/Cart", "/A"})
	}
	if t.guarded() && r.IntN(2) == 0 {
		q.forwarded = pick(r, []string{"10.1.2.3", "192.0.2.7", "192.0.2.7, 10.1.2.3", "nonsense"})
	}
	return q
}

func sorted[V any](m map[string]V) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// byHand returns small worlds, each about one thing.
func byHand() []world {
	tags := func(list ...routeTag) []routeTag { return list }
	one := func(list []routeTag, requests ...request) world {
		w := world{requests: requests}
		for i, t := range list {
			w.services = append(w.services, service{serviceName(i), []routeTag{t}})
		}
		return w
	}
	get := func(host, target string) request { return request{host: host, target: target} }
	from := func(host, target, forwarded string) request { return request{host, target, forwarded} }
	return []world{
		// Prefixes of each other, and what falls through.
		one(tags(routeTag{path: "/"}, routeTag{path: "/a"}, routeTag{path: "/a/b"}, routeTag{host: "a.test", path: "/a/b/c"}),
			get("a.test", "/a/b/c/d"), get("a.test", "/a/b/x"), get("a.test", "/ax"), get("a.test", "/"), get("x.test", "/a/b/c"), get("x.test", "/b")),
		one(tags(routeTag{host: "a.test", path: "/"}, routeTag{host: "*.test", path: "/a"}, routeTag{path: "/b"}),
			get("a.test", "/b"), get("x.test", "/a"), get("x.test", "/b"), get("x.test", "/c"), get("y.example", "/a")),
		// A port in Host, and a final dot.
		one(tags(routeTag{host: "a.test", path: "/"}, routeTag{host: "a.test:8080", path: "/"}, routeTag{host: "*.a.test", path: "/"}),
			get("a.test:8080", "/"), get("a.test:8081", "/"), get("a.test:443", "/"), get("a.test:80", "/"), get("a.test.", "/"), get("b.a.test.", "/"),
			get("b.a.test:9", "/"), get("a.test.:8081", "/")),
		// The order of hosts.
		one(tags(routeTag{host: "web1.test", path: "/"}, routeTag{host: "web?.test", path: "/"}, routeTag{host: "w*.test", path: "/"}, routeTag{host: "*.test", path: "/"}),
			get("web1.test", "/"), get("web2.test", "/"), get("wx.test", "/"), get("x.test", "/")),
		one(tags(routeTag{host: "web1.test", path: "/"}, routeTag{host: "{web1,web2}.test", path: "/"}, routeTag{host: "*.test", path: "/"}),
			get("web1.test", "/"), get("web2.test", "/")),
		// Slips.
		one(tags(routeTag{path: "/slip", options: "wieght=0.5", flaw: slip}, routeTag{path: "/s"}, routeTag{host: "bare.test", flaw: pathless}),
			get("a.test", "/slip"), get("a.test", "/s"), get("bare.test", "/x")),
		one(tags(routeTag{path: "/lots", options: "weight=lots", flaw: garbled}, routeTag{path: "/l"}, routeTag{host: "b.test", path: "/"}),
			get("a.test", "/lots"), get("a.test", "/l"), get("b.test", "/x"), get("a.test", "/x")),
		one(tags(routeTag{path: "/p", options: "proto=http"}, routeTag{path: "/pxy", options: "pxyproto=true", flaw: slip}),
			get("a.test", "/p"), get("a.test", "/pxy")),
		// Guards.
		one(tags(routeTag{path: "/in", options: "allow=ip:10.0.0.0/8"}, routeTag{path: "/out/", options: "deny=ip:127.0.0.0/8"}, routeTag{path: "/"}),
			get("a.test", "/in"), get("a.test", "/in/x"), get("a.test", "/inside"), get("a.test", "/out/x"), get("a.test", "/out"),
			from("a.test", "/in", "10.1.2.3"), get("a.test", "//in"), get("a.test", "//harmless")),
		one(tags(routeTag{path: "/here", options: "allow=ip:127.0.0.0/8"}, routeTag{path: "/there", options: "deny=ip:192.0.2.0/24"}),
			get("a.test", "/here"), from("a.test", "/here", "192.0.2.7"), from("a.test", "/there", "192.0.2.7"), from("a.test", "/there", "192.0.3.7")),
		one(tags(routeTag{path: "/slip", options: "deny=127.0.0.0/8", flaw: openGuard}, routeTag{path: "/who", options: "auth=nobody", flaw: openGuard}, routeTag{path: "/"}),
			get("a.test", "/slip"), get("a.test", "/slip/x"), get("a.test", "/slippery"), get("a.test", "/who")),
		// Paths that can be written in more than one way.
		one(tags(routeTag{path: "/a"}, routeTag{path: "/a/b", options: "strip=/a"}, routeTag{path: "/", options: "prepend=/v1"}),
			get("a.test", "/a%2Fb"), get("a.test", "/%61"), get("a.test", "/a/b/%7Ex"), get("a.test", "/a/../b"), get("a.test", "/a/b/./c"), get("a.test", "/x%20y"),
			get("a.test", "/a//b"), get("a.test", "/a/%2E%2E/b")),
		// A strip that begins only some of the paths.
		one(tags(routeTag{path: "/", options: "strip=/a"}), get("a.test", "/a/x"), get("a.test", "/ax"), get("a.test", "/x/a/y"), get("a.test", "/a")),
		// Redirects.
		one(tags(routeTag{path: "/old", options: "strip=/old redirect=301,https://new.test$path"}, routeTag{path: "/was", options: "redirect=302,https://$host/is$path"},
			routeTag{path: "/gone", options: "redirect=308,https://new.test/fixed"}, routeTag{path: "/", options: "redirect=307,http://new.test/$path"}),
			get("a.test", "/old/x?y=z"), get("a.test", "/old"), get("a.test", "/old/a%2Fb"), get("a.test", "/old%2Fb"), get("a.test", "/was/x?y"), get("A.test:80", "/was/"),
			get("a.test", "/gone/x?y=z"), get("a.test", "//evil.test/x"), get("a.test", "/old//evil.test/x"), get("a.test", "/%20")),
		// Shares.
		one(tags(routeTag{path: "/w", options: "weight=1"}, routeTag{path: "/w"}, routeTag{path: "/w", options: "weight=0"}),
			get("a.test", "/w"), get("a.test", "/w/1"), get("a.test", "/w/2"), get("a.test", "/w/3")),
		one(tags(routeTag{path: "/w", options: "weight=0.5"}, routeTag{path: "/w"}, routeTag{path: "/w", options: "weight=0"}),
			get("a.test", "/w"), get("a.test", "/w/1"), get("a.test", "/w/2"), get("a.test", "/w/3")),
	}
}
