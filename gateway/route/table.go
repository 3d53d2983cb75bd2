package route

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/mesh"
)

// Route is one row of the table: a key and the instances that answer for it.
// More than one service may declare the same route; they share it.
type Route struct {
	Key
	// Services are the names of the services behind the route, sorted.
	Services []string `json:"services"`
	// Instances is empty while no instance is healthy.
	Instances []mesh.Instance `json:"instances"`
	// Gone is when the last healthy instance went; zero while there is one.
	Gone time.Time `json:"gone,omitzero"`
}

// Problem is a tag that was ignored, and why.
type Problem struct {
	Service string `json:"service"`
	Node    string `json:"node"`
	Tag     string `json:"tag"`
	Reason  string `json:"reason"`
}

// Table is an immutable routing table. The zero Table routes nothing.
type Table struct {
	hosts    map[string][]*Route // longest path first
	problems []Problem
}

// Config is what a table is built from.
type Config struct {
	// Prefix marks a tag as a route; "" is DefaultPrefix.
	Prefix string
	// Services are the healthy instances of each service.
	Services map[string][]mesh.Instance
	// Previous is the table that this one replaces; may be nil. A route of it
	// that has no healthy instance now is kept without instances for Keep, so
	// that a caller learns "not healthy" instead of "no such thing" and no
	// shorter route takes its requests meanwhile.
	Previous *Table
	Keep     time.Duration
	// Now is the moment for which the table is built.
	Now time.Time
}

// New builds a table. A malformed tag loses that one route, never another.
func New(cfg Config) *Table {
	prefix := cmp.Or(cfg.Prefix, DefaultPrefix)
	t := &Table{hosts: map[string][]*Route{}}
	routes := map[Key]*Route{}
	for _, instances := range cfg.Services {
		for _, instance := range instances {
			t.add(prefix, instance, routes)
		}
	}
	if cfg.Previous != nil {
		keepGone(routes, cfg)
	}
	for key, r := range routes {
		r.finish()
		t.hosts[key.Host] = append(t.hosts[key.Host], r)
	}
	for _, rows := range t.hosts {
		slices.SortFunc(rows, func(a, b *Route) int {
			return cmp.Or(cmp.Compare(len(b.Path), len(a.Path)), strings.Compare(a.Path, b.Path))
		})
	}
	slices.SortFunc(t.problems, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Node, b.Node), strings.Compare(a.Tag, b.Tag))
	})
	return t
}

func (t *Table) add(prefix string, instance mesh.Instance, routes map[Key]*Route) {
	seen := map[Key]bool{}
	for _, tag := range instance.Tags {
		key, err := Parse(prefix, tag)
		if errors.Is(err, ErrNotRoute) {
			continue
		}
		if err != nil {
			t.problems = append(t.problems, Problem{
				Service: instance.ID.Service(), Node: instance.Node, Tag: fmt.Sprintf("%.80q", tag), Reason: err.Error(),
			})
			continue
		}
		if seen[key] {
			continue
		}
		seen[key] = true
		if routes[key] == nil {
			routes[key] = &Route{Key: key}
		}
		routes[key].Instances = append(routes[key].Instances, instance)
	}
}

// keepGone adds the routes of the previous table that nobody serves now.
func keepGone(routes map[Key]*Route, cfg Config) {
	for _, old := range cfg.Previous.Routes() {
		gone := old.Gone
		if gone.IsZero() {
			gone = cfg.Now
		}
		if routes[old.Key] == nil && cfg.Now.Sub(gone) < cfg.Keep {
			routes[old.Key] = &Route{Key: old.Key, Services: old.Services, Gone: gone}
		}
	}
}

// finish puts the instances into their order and derives the services.
func (r *Route) finish() {
	if len(r.Instances) == 0 {
		return
	}
	slices.SortFunc(r.Instances, compareInstances)
	for _, instance := range r.Instances {
		r.Services = append(r.Services, instance.ID.Service())
	}
	r.Services = slices.Compact(r.Services)
}

func compareInstances(a, b mesh.Instance) int {
	return cmp.Or(
		strings.Compare(a.ID.Service(), b.ID.Service()),
		strings.Compare(a.Node, b.Node),
		strings.Compare(a.ServiceID, b.ServiceID),
	)
}

// Lookup returns the route for a request: the longest path among the routes of
// the host as it was sent, then of the host without its port, then of no host.
// path is the decoded path.
func (t *Table) Lookup(host, path string) (*Route, bool) {
	host = strings.TrimSuffix(strings.ToLower(host), ":80")
	if r := longest(t.hosts[host], path); host != "" && r != nil {
		return r, true
	}
	if name, _, hasPort := strings.Cut(host, ":"); hasPort && name != "" {
		if r := longest(t.hosts[name], path); r != nil {
			return r, true
		}
	}
	r := longest(t.hosts[""], path)
	return r, r != nil
}

func longest(rows []*Route, path string) *Route {
	for _, r := range rows {
		if strings.HasPrefix(path, r.Path) {
			return r
		}
	}
	return nil
}

// Routes returns all routes, by host and path. They are shared: do not change
// them.
func (t *Table) Routes() []*Route {
	var all []*Route
	for _, rows := range t.hosts {
		all = append(all, rows...)
	}
	slices.SortFunc(all, func(a, b *Route) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), strings.Compare(a.Path, b.Path))
	})
	return all
}

// Problems returns the tags that were ignored.
func (t *Table) Problems() []Problem { return slices.Clone(t.problems) }
