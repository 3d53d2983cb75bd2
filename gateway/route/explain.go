package route

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"sluice/gateway/tag"
)

// maxSteps bounds the paths that an explanation lists of one host.
const maxSteps = 100

// Explanation tells how a lookup comes to its result: the hosts that take the
// request's in their order of precedence, up to the one with the answer, and of
// each its paths in theirs.
type Explanation struct {
	// Name, Port and Path are what is compared: the host without its final dot, its
	// port, and the decoded path.
	Name  string     `json:"name"`
	Port  string     `json:"port,omitempty"`
	Path  string     `json:"path"`
	Hosts []HostStep `json:"hosts"`
	// Route is what Lookup returns; nil is that no route takes the request.
	Route *Route `json:"route"`
}

// HostStep is a host that takes the request's.
type HostStep struct {
	// Host is as it was declared; "" stands for the routes of no host.
	Host   string     `json:"host"`
	Reason string     `json:"reason"`
	Paths  []PathStep `json:"paths"`
	// Omitted counts the paths that do not fit and that are not listed because
	// there are too many.
	Omitted int `json:"omitted,omitempty"`
}

// PathStep is a route of the host, and why it is the one or is passed over.
type PathStep struct {
	Key
	Taken  bool   `json:"taken"`
	Reason string `json:"reason"`
}

// Explain does slowly what Lookup does, by a look at every route, and tells why.
// Host and path are those of Lookup.
func (t *Table) Explain(host, path string) Explanation {
	name, port := splitHost(host)
	e := Explanation{Name: name, Port: port, Path: path}
	type candidate struct {
		step HostStep
		rank [2]int
		rows []*row
	}
	found := map[string]*candidate{}
	t.rows.each(func(r *row) bool {
		if r.key().Kind != tag.HTTP {
			return true
		}
		c := found[r.key().Host]
		if c == nil {
			rank, reason := hostRank(r.key().Host, name, port)
			if reason == "" {
				return true
			}
			c = &candidate{step: HostStep{Host: r.key().Host, Reason: reason}, rank: rank}
			found[r.key().Host] = c
		}
		c.rows = append(c.rows, r)
		return true
	})
	var all []*candidate
	for _, c := range found {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *candidate) int {
		return cmp.Or(slices.Compare(a.rank[:], b.rank[:]), strings.Compare(a.step.Host, b.step.Host))
	})
	for _, c := range all {
		if e.Route = c.step.walk(c.rows, path); e.Route != nil {
			e.Hosts = append(e.Hosts, c.step)
			break
		}
		e.Hosts = append(e.Hosts, c.step)
	}
	return e
}

// walk lists the paths up to the one that takes the request's, and returns it.
func (s *HostStep) walk(rows []*row, path string) *Route {
	slices.SortFunc(rows, func(a, b *row) int { return compareRank(a.key(), b.key()) })
	for _, r := range rows {
		taken, reason := takes(r.key(), path)
		if taken && r.route == nil {
			taken, reason = false, "it would take the path, but an override removed all its targets"
		} else if !taken && len(s.Paths) >= maxSteps {
			s.Omitted++
			continue
		}
		s.Paths = append(s.Paths, PathStep{Key: r.key(), Taken: taken, Reason: reason})
		if taken {
			return r.route
		}
	}
	return nil
}

// hostRank returns why a declared host takes the name and port of a request, and
// its rank among those that do, the lowest first; "" is that it does not.
func hostRank(pattern, name, port string) (rank [2]int, reason string) {
	if pattern == "" {
		return [2]int{6, 0}, "routes of no host take every host"
	}
	declared, own := tag.SplitPort(pattern)
	if name == "" || own != "" && own != port {
		return rank, ""
	}
	without, at := 1, ""
	if own != "" {
		without, at = 0, " and port "+own
	}
	if suffix, ok := tag.Wildcard(declared); ok {
		if len(name) <= len(suffix) || !hasPrefixFolded(name[len(name)-len(suffix):], suffix) {
			return rank, ""
		}
		return [2]int{2 + without, -len(suffix)}, "the wildcard takes the name" + at
	}
	if tag.IsPattern(declared) {
		p, err := tag.Compile(declared)
		if err != nil || !p.MatchLower(name) {
			return rank, ""
		}
		return [2]int{4 + without, -tag.Ordinary(declared)}, "the pattern takes the name" + at
	}
	if len(name) != len(declared) || !hasPrefixFolded(name, declared) {
		return rank, ""
	}
	return [2]int{without, 0}, "it is the name" + at
}

// takes reports whether a key's path takes that of a request, and why or why not.
func takes(key Key, path string) (ok bool, reason string) {
	quoted := strconv.Quote(key.Path)
	switch key.Match {
	case tag.Exact:
		if ok = path == key.Path; !ok {
			return false, "the path is not exactly " + quoted
		}
	case tag.Glob:
		p, err := tag.Compile(key.Path)
		if ok = err == nil && p.Match(path); !ok {
			return false, "the pattern " + quoted + " does not cover the path"
		}
	case tag.IPrefix:
		if ok = hasPrefixFolded(path, key.Path); !ok {
			return false, "the path does not begin with " + quoted + ", whatever the case"
		}
	default:
		rest, found := strings.CutPrefix(path, key.Path)
		if !found {
			return false, "the path does not begin with " + quoted
		}
		if key.Match == tag.Segment && rest != "" && rest[0] != '/' && !strings.HasSuffix(key.Path, "/") {
			return false, "the path goes on after " + quoted + " within the same segment"
		}
	}
	return true, "the path fits, and every longer one was passed over"
}
