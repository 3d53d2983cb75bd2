package route

import (
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/gateway/tag"
	"sluice/mesh"
)

// Table is an immutable routing table, safe for concurrent use. The zero Table
// routes nothing.
type Table struct {
	prefix, datacenter string
	match              tag.Match
	keep               time.Duration
	rules              Rules
	check              func(tag.Route) error
	admit              func(*mesh.Instance, *tag.Options) error
	plain              *tag.Options // of every tag without options

	rows     *radix[*row] // by text, and so in order
	services *radix[*service]
	troubled *radix[*service] // those with problems
	gone     *radix[*row]
	// expires is when the first of gone is to be forgotten; zero if there is none.
	expires time.Time
	size    int

	web   *hosts
	any   *paths // of no host
	names *hosts
	ports *radix[*Route]
}

// row is what declares a key, and what comes of that; there is at least one of both.
type row struct {
	declared []*declaration
	// route is nil if rules removed every target.
	route *Route
}

func (r *row) key() Key {
	if r.route != nil {
		return r.route.Key
	}
	return r.declared[0].key
}

// text orders rows by host, path, match and kind.
func text(key Key) string {
	return key.Host + "\x00" + key.Path + "\x00" + string([]byte{byte(key.Match), byte(key.Kind)})
}

// Config is what a table is built from.
type Config struct {
	// Prefix marks a tag as a route; "" is DefaultPrefix.
	Prefix string
	// Datacenter is what $DC in a tag stands for.
	Datacenter string
	// Match is how paths are compared where a tag does not say; the zero Match is
	// that of Fabio.
	Match tag.Match
	// Check returns why the gateway cannot serve what a tag asks for, which puts the
	// tag in quarantine; nil is that it can. It must give the same answer as long as
	// a Previous is passed on. A nil Check takes everything.
	Check func(tag.Route) error
	// Admit returns why an instance cannot be used as its own tag asks, which puts
	// that tag of that instance into quarantine; nil takes every instance.
	Admit func(*mesh.Instance, *tag.Options) error
	// Services are the healthy instances of each service. They are kept, and must
	// not change any more.
	Services map[string][]mesh.Instance
	// Rules are applied after what is discovered; nil is none. They are compared
	// with those of Previous by ==, so use a pointer.
	Rules Rules
	// Previous is the table that this one replaces; may be nil. What did not change
	// since is shared with it. A route of it that has no healthy instance now is
	// kept without instances for Keep, so that a caller learns "not healthy"
	// instead of "no such thing" and no shorter route takes its requests meanwhile.
	// A Previous with another Prefix or Datacenter is ignored.
	Previous *Table
	Keep     time.Duration
	// Now is the moment for which the table is built.
	Now time.Time
}

// New builds a table. A malformed tag loses that one route, never another.
func New(cfg Config) *Table {
	base := &Table{prefix: cfg.Prefix, datacenter: cfg.Datacenter, match: cfg.Match, plain: &tag.Options{Proto: tag.ProtoHTTP}}
	if p := cfg.Previous; p != nil && p.plain != nil && p.prefix == cfg.Prefix && p.datacenter == cfg.Datacenter && p.match == cfg.Match {
		base = p
	}
	changed := maps.Clone(cfg.Services)
	if changed == nil {
		changed = map[string][]mesh.Instance{}
	}
	base.services.each(func(s *service) bool {
		if _, ok := changed[s.name]; !ok {
			changed[s.name] = nil
		}
		return true
	})
	e := edit{next: *base, now: cfg.Now}
	e.next.check, e.next.admit = cfg.Check, cfg.Admit
	if e.next.keep != cfg.Keep && e.next.gone != nil {
		e.next.expires = cfg.Now // look at once
	}
	e.next.keep = cfg.Keep
	e.services(changed)
	e.rules(cfg.Rules)
	next, _ := e.finish()
	return next
}

// Change is a route before and after an update; one of them is nil if the route
// is new or is no more.
type Change struct{ Before, After *Route }

// Update returns the table in which each service of changed has those healthy
// instances, maybe none, and the routes that are not the same any more, in their
// order. Services that are not in changed stay as they are. Routes that are gone
// for long enough at now are forgotten.
func (t *Table) Update(now time.Time, changed map[string][]mesh.Instance) (*Table, []Change) {
	e := edit{next: *t, now: now}
	e.services(changed)
	return e.finish()
}

// WithRules returns the table with other rules, and what changed as Update does.
func (t *Table) WithRules(now time.Time, rules Rules) (*Table, []Change) {
	e := edit{next: *t, now: now}
	e.rules(rules)
	return e.finish()
}

// Expires is when Update has something to forget even if nothing changes; zero
// means never.
func (t *Table) Expires() time.Time { return t.expires }

// Lookup returns the route for a request: of the first host pattern that takes
// the host and has a route that takes the path. host is as the client sent it;
// path is the decoded path.
//
// The hosts, in their order: the name with its port, the name, wildcards from
// the longest, patterns, no host; the paths, from the longest, see Explain.
// Lookup allocates nothing.
func (t *Table) Lookup(host, path string) (*Route, bool) {
	name, port := splitHost(host)
	if name != "" {
		if r := t.web.best(name, port, path); r != nil {
			return r, true
		}
	}
	r := t.any.best(path)
	return r, r != nil
}

func splitHost(host string) (name, port string) {
	name, port = tag.SplitPort(host)
	return strings.TrimSuffix(name, "."), port
}

// LookupName returns the route for a TLS connection that asks for a server name.
func (t *Table) LookupName(name string) (*Route, bool) {
	r := t.names.best(strings.TrimSuffix(name, "."), "", "")
	return r, r != nil
}

// LookupPort returns the route for a TCP connection that came to address, an
// "ip:port" in its shortest form: the route of that address, else of the port.
func (t *Table) LookupPort(address string) (*Route, bool) {
	r := t.ports.get(address)
	if port := strings.LastIndexByte(address, ':'); r == nil && port >= 0 {
		r = t.ports.get(address[port:])
	}
	return r, r != nil
}

// Listeners returns the addresses of the TCP routes, ":port" or "ip:port",
// sorted.
func (t *Table) Listeners() []string {
	var all []string
	t.ports.each(func(r *Route) bool {
		all = append(all, r.Host)
		return true
	})
	slices.Sort(all)
	return all
}

// Len returns the number of routes.
func (t *Table) Len() int { return t.size }

// Routes returns all routes, by host and path. They are shared: do not change
// them.
func (t *Table) Routes() []*Route {
	all := make([]*Route, 0, t.size)
	t.rows.each(func(r *row) bool {
		if r.route != nil {
			all = append(all, r.route)
		}
		return true
	})
	return all
}

// Problems returns the tags that are quarantined, by service, node and tag.
func (t *Table) Problems() []Problem {
	var all []Problem
	t.troubled.each(func(s *service) bool {
		all = append(all, s.problems...)
		return true
	})
	return all
}
