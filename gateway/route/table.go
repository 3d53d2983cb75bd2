package route

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sluice/mesh"
)

// Route is one row of the table: a key and the instances that answer for it.
// More than one service may declare the same route; they share it.
type Route struct {
	Key
	Instances []mesh.Instance `json:"instances"`
}

// Services returns the names of the services behind the route, sorted.
func (r *Route) Services() []string {
	var names []string
	for _, instance := range r.Instances {
		names = append(names, instance.ID.Service())
	}
	slices.Sort(names)
	return slices.Compact(names)
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

// New builds the table from the healthy instances of each service. A malformed
// tag loses that one route, never another.
func New(prefix string, services map[string][]mesh.Instance) *Table {
	t := &Table{hosts: map[string][]*Route{}}
	routes := map[Key]*Route{}
	for _, instances := range services {
		for _, instance := range instances {
			t.add(prefix, instance, routes)
		}
	}
	for key, r := range routes {
		slices.SortFunc(r.Instances, compareInstances)
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
