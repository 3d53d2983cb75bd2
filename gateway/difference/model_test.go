package difference_test

import (
	"cmp"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"sluice/gateway/tag"
)

// seen is what came of a request.
type seen struct {
	status int
	// service answered; "" is the proxy itself. host and uri are what it saw; the uri
	// "?" is not known.
	service, host, uri string
	location           string
}

// like reports whether two of them agree in what is known of both.
func (s seen) like(other seen) bool {
	if s.uri == "?" || other.uri == "?" {
		s.uri, other.uri = "", ""
	}
	return s == other
}

// among reports whether s is like one of set.
func (s seen) among(set []seen) bool { return slices.ContainsFunc(set, s.like) }

// target is a service at a route of the model.
type target struct {
	service  string
	url      *url.URL
	fixed    float64
	options  map[string]string
	redirect int
	guards   guards
	closed   bool
}

// guards are who may use a target, if anybody is named.
type guards struct{ allow, deny []netip.Prefix }

func (g guards) refuse(addr netip.Addr) bool {
	contains := func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) }
	if len(g.allow) > 0 {
		return !slices.ContainsFunc(g.allow, contains)
	}
	return slices.ContainsFunc(g.deny, contains)
}

// row is a path of a host.
type row struct {
	path    string
	segment bool // only with the correction segments
	targets []*target
}

// model is Fabio in our words, with some of its ways corrected.
type model struct {
	corrected corrections
	// old is Fabio 1.5: it knows no prepend=, and of a redirect whose host ends with $path it
	// loses how the client wrote the path, and panics if there is something to strip.
	old   bool
	table map[string][]*row
}

// newModel reads the catalog as a Fabio does that has just begun: one with a table
// keeps that while the catalog holds a weight that is no number.
func newModel(w world, corrected corrections) *model { return newModelOf(w, corrected, false) }

func newModelOf(w world, corrected corrections, old bool) *model {
	m := &model{corrected: corrected, old: old, table: map[string][]*row{}}
	if w.garbled() && !corrected[weights] {
		return m
	}
	for _, s := range w.services {
		for _, t := range s.tags {
			m.add(s.name, t)
		}
	}
	for _, rows := range m.table {
		// In reverse order of text, so that a longer path comes before its prefix.
		slices.SortFunc(rows, func(a, b *row) int {
			return cmp.Or(strings.Compare(b.path, a.path), strings.Compare(boolean(b.segment), boolean(a.segment)))
		})
	}
	return m
}

func boolean(b bool) string { return strconv.FormatBool(b) }

// add takes one tag. Whatever is wrong with its options, the route is there.
func (m *model) add(service string, t routeTag) {
	if t.flaw == garbled || m.corrected[strict] && (t.flaw == slip || t.flaw == pathless) {
		return
	}
	host, path := strings.ToLower(expandDC(t.host)), expandDC(t.path)
	if path == "" {
		path = "/"
	}
	if m.corrected[ports] {
		host = strings.TrimSuffix(strings.TrimSuffix(host, ":80"), ":443")
	}
	added := &target{service: service, url: &url.URL{Scheme: "http", Host: "dst-" + service}, options: map[string]string{}}
	added.closed = m.corrected[closing] && t.flaw == openGuard
	for _, option := range strings.Fields(t.options) {
		name, value, _ := strings.Cut(option, "=")
		if m.old && name == "prepend" {
			continue
		}
		added.set(name, value)
	}
	added.guards.read(added.options)
	key := row{path: path, segment: m.corrected[segments] && t.guarded()}
	for _, r := range m.table[host] {
		if r.path == key.path && r.segment == key.segment {
			r.targets = append(r.targets, added)
			return
		}
	}
	key.targets = []*target{added}
	m.table[host] = append(m.table[host], &key)
}

func expandDC(text string) string {
	return strings.NewReplacer("${DC}", datacenter, "$DC", datacenter).Replace(text)
}

// set takes an option. redirect= without a URL is as if it were not there.
func (t *target) set(name, value string) {
	switch name {
	case "weight":
		t.fixed, _ = strconv.ParseFloat(value, 64)
	case "redirect":
		code, to, ok := strings.Cut(value, ",")
		if u, err := url.Parse(to); ok && err == nil {
			t.url = u
			t.redirect, _ = strconv.Atoi(code)
		}
	default:
		t.options[name] = value
	}
}

// read takes the lists. Both together are none, and an item that cannot be read
// ends its list, which is open if nothing came before.
func (g *guards) read(options map[string]string) {
	if options["allow"] != "" && options["deny"] != "" {
		return
	}
	for name, list := range map[string]*[]netip.Prefix{"allow": &g.allow, "deny": &g.deny} {
		for item := range strings.SplitSeq(options[name], ",") {
			text, ok := strings.CutPrefix(item, "ip:")
			if !ok {
				break
			}
			network, err := netip.ParsePrefix(text)
			if addr, plain := netip.ParseAddr(text); plain == nil {
				network, err = netip.PrefixFrom(addr, addr.BitLen()), nil
			}
			if err != nil {
				break
			}
			*list = append(*list, network)
		}
	}
}

// answers returns what may come of a request.
func (m *model) answers(q request) []seen {
	raw, query, hasQuery := strings.Cut(q.target, "?")
	path, err := url.PathUnescape(raw)
	if err != nil || m.corrected[dots] && tag.HasDotSegment(path) {
		return []seen{{status: http.StatusBadRequest}}
	}
	found := m.find(q.host, path)
	if merged := mergeSlashes(path); m.corrected[slashes] && merged != path && m.find(q.host, merged) != found {
		return []seen{{status: http.StatusBadRequest}}
	}
	if found == nil {
		return []seen{{status: http.StatusNotFound}}
	}
	u := &url.URL{Path: path, RawPath: raw, RawQuery: query, ForceQuery: hasQuery && query == ""}
	var all []seen
	for _, t := range found.picked() {
		all = append(all, m.serve(t, q, u))
	}
	return all
}

func mergeSlashes(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path
}

// picked are the targets that get a share: what fixed weights leave is split among
// the others.
func (r *row) picked() []*target {
	sum, fixed := 0.0, 0
	for _, t := range r.targets {
		if t.fixed > 0 {
			sum += t.fixed
			fixed++
		}
	}
	return slices.DeleteFunc(slices.Clone(r.targets), func(t *target) bool { return t.fixed <= 0 && fixed > 0 && sum >= 1 })
}

// find looks at each host that takes the request's, and last at routes of none.
func (m *model) find(host, path string) *row {
	for _, h := range append(m.hosts(host), "") {
		for _, r := range m.table[h] {
			if r.takes(path) {
				return r
			}
		}
	}
	return nil
}

func (r *row) takes(path string) bool {
	rest, ok := strings.CutPrefix(path, r.path)
	return ok && (!r.segment || rest == "" || rest[0] == '/' || strings.HasSuffix(r.path, "/"))
}

// hosts returns the patterns that take a host, in order.
func (m *model) hosts(host string) []string {
	host = strings.TrimSuffix(strings.ToLower(host), ":80")
	name := host
	if m.corrected[ports] {
		if h, _, err := net.SplitHostPort(host); err == nil {
			name = h
		}
	}
	if m.corrected[finalDot] {
		bare := strings.TrimSuffix(name, ".")
		host, name = bare+strings.TrimPrefix(host, name), bare
	}
	var found []string
	for pattern := range m.table {
		if pattern != "" && (wild(strings.TrimSuffix(pattern, ":80"), host) || m.corrected[ports] && wild(pattern, name)) {
			found = append(found, pattern)
		}
	}
	order := func(a, b string) int { return strings.Compare(reversed(b), reversed(a)) }
	if m.corrected[precedence] {
		order = func(a, b string) int { return cmp.Or(rank(a)-rank(b), ordinary(b)-ordinary(a), strings.Compare(a, b)) }
	} else if m.corrected[ports] {
		order = func(a, b string) int {
			return cmp.Or(strings.Compare(reversed(withoutPort(b)), reversed(withoutPort(a))), len(b)-len(a))
		}
	}
	slices.SortFunc(found, order)
	return found
}

func withoutPort(host string) string {
	name, _ := tag.SplitPort(host)
	return name
}

// reversed is a host from its end to its begin, its port left where it is: names
// that are sorted so are sorted from the top of the DNS.
func reversed(host string) string {
	name, port := tag.SplitPort(host)
	bytes := []byte(name)
	slices.Reverse(bytes)
	if port != "" {
		return string(bytes) + ":" + port
	}
	return string(bytes)
}

// rank is that of the gateway's order: names, wildcards, patterns, and of each
// those with a port first.
func rank(pattern string) int {
	name, port := tag.SplitPort(pattern)
	_, wildcard := tag.Wildcard(name)
	rank := 4
	switch {
	case wildcard:
		rank = 2
	case !strings.ContainsAny(name, "*?{["):
		rank = 0
	}
	if port == "" {
		rank++
	}
	return rank
}

// ordinary counts the characters that stand for themselves.
func ordinary(pattern string) int {
	return len(pattern) - strings.Count(pattern, "*") - strings.Count(pattern, "?")
}

// wild reports whether a pattern takes all of text: * is any text, ? one
// character, {a,b} either.
func wild(pattern, text string) bool {
	at := strings.IndexAny(pattern, "*?{")
	if at < 0 {
		return pattern == text
	}
	if !strings.HasPrefix(text, pattern[:at]) {
		return false
	}
	rest, text := pattern[at+1:], text[at:]
	switch pattern[at] {
	case '?':
		return text != "" && wild(rest, text[1:])
	case '{':
		choices, after, _ := strings.Cut(rest, "}")
		return slices.ContainsFunc(strings.Split(choices, ","), func(choice string) bool { return wild(choice+after, text) })
	}
	for i := range len(text) + 1 {
		if wild(rest, text[i:]) {
			return true
		}
	}
	return false
}

// serve is what comes of a request that a target got.
func (m *model) serve(t *target, q request, u *url.URL) seen {
	switch {
	case t.closed || m.refuses(t, q.forwarded):
		return seen{status: http.StatusForbidden}
	case t.options["auth"] != "":
		return seen{status: http.StatusUnauthorized} // nobody knows the scheme
	case m.old && t.redirect != 0 && strings.HasSuffix(t.url.Host, "$path") && t.options["strip"] != "" && strings.HasPrefix(u.Path, t.options["strip"]):
		return seen{} // no answer
	case t.redirect != 0:
		return seen{status: t.redirect, location: m.location(t, q, u)}
	}
	s := seen{status: http.StatusOK, service: t.service, host: q.host, uri: m.rewrite(t, u)}
	switch t.options["host"] {
	case "":
	case "dst":
		s.host = t.url.Host
	default:
		s.host = t.options["host"]
	}
	return s
}

// refuses looks at the client and at each address that somebody has written into
// X-Forwarded-For; what is none is passed over.
func (m *model) refuses(t *target, forwarded string) bool {
	if t.guards.refuse(netip.MustParseAddr("127.0.0.1")) {
		return true
	}
	if m.corrected[trust] {
		return false
	}
	for text := range strings.SplitSeq(forwarded, ",") {
		addr, err := netip.ParseAddr(strings.TrimSpace(text))
		if err == nil && t.guards.refuse(addr) {
			return true
		}
	}
	return false
}

// rewrite returns the path and query that a service sees. What Fabio does not change
// goes on as it came; else it decodes the path, and encodes what strip and prepend have
// made of it anew. What it makes of one that is not the same to a second decoding, or to
// path.Clean, is left open.
func (m *model) rewrite(t *target, u *url.URL) string {
	path, raw := u.Path, u.RawPath
	if strip := t.options["strip"]; strip != "" && strings.HasPrefix(path, strip) {
		path = rooted(path[len(strip):])
		raw = rooted(raw[encodedLength(raw, len(strip)):])
	}
	path, raw = t.options["prepend"]+path, t.options["prepend"]+raw
	switch {
	case m.corrected[escapes] && u.RawQuery != "":
		return raw + "?" + u.RawQuery
	case m.corrected[escapes]:
		return raw
	case path == u.Path && !strings.HasPrefix(path, "//"):
		return u.RequestURI()
	case strings.ContainsAny(u.Path, "%?#") || strings.Contains(u.Path, "//") || tag.HasDotSegment(u.Path):
		return "?"
	}
	return (&url.URL{Path: path, RawQuery: u.RawQuery}).RequestURI()
}

func rooted(path string) string {
	if strings.HasPrefix(path, "/") {
		return path
	}
	return "/" + path
}

// encodedLength is how long the first n decoded bytes of raw are in it.
func encodedLength(raw string, n int) int {
	at := 0
	for range n {
		if strings.HasPrefix(raw[at:], "%") {
			at += 2
		}
		at++
	}
	return at
}

// location is where a redirect leads: $path is the path without strip, and brings
// the query along; $host is the host that was asked.
func (m *model) location(t *target, q request, u *url.URL) string {
	to := *t.url
	if host, ok := strings.CutSuffix(to.Host, "$path"); ok {
		to.Host, to.Path = host, "$path"
	}
	to.Path = strings.Replace(to.Path, "/$path", "$path", 1)
	to.RawPath = to.Path
	if m.old && to.Host != t.url.Host {
		to.RawPath = "" // what was read as the end of the host has no path to be raw
	}
	if strings.Contains(to.Path, "$path") {
		path, raw := strings.TrimPrefix(u.Path, t.options["strip"]), strings.TrimPrefix(u.RawPath, t.options["strip"])
		if m.corrected[escapes] && path != u.Path {
			raw = u.RawPath[encodedLength(u.RawPath, len(u.Path)-len(path)):]
		}
		if m.corrected[oneSlash] {
			path, raw = "/"+strings.TrimLeft(path, "/"), "/"+strings.TrimLeft(raw, "/")
		}
		if m.corrected[escapes] {
			path, _ = url.PathUnescape(raw) // a URL is written as raw only if it means the same
		}
		to.Path = strings.Replace(to.Path, "$path", path, 1)
		to.RawPath = strings.Replace(to.RawPath, "$path", raw, 1)
		to.RawQuery = cmp.Or(to.RawQuery, u.RawQuery)
	}
	to.Path = cmp.Or(to.Path, "/")
	to.Host = strings.Replace(to.Host, "$host", q.host, 1)
	recorder := httptest.NewRecorder()
	http.Redirect(recorder, &http.Request{Method: http.MethodGet, URL: u}, to.String(), t.redirect)
	return recorder.Header().Get("Location")
}
