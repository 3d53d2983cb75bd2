package route

import (
	"slices"
	"strings"

	"sluice/gateway/tag"
)

// hosts finds the paths of a host name, immutable.
//
// The order of precedence: the name with its port, the name, wildcards with the
// port, wildcards (the longer the sooner), patterns with the port, patterns (the
// more ordinary bytes the sooner).
type hosts struct {
	names *names
	globs []*globHost // in their order of precedence
	// ported holds what is declared for one port, by the port.
	ported *radix[*hosts]
}

type globHost struct {
	text    string
	pattern tag.Pattern
	paths   *paths
}

// with returns the hosts in which key leads to r; nil removes the key.
func (h *hosts) with(key tag.Key, r *Route) *hosts {
	var next hosts
	if h != nil {
		next = *h
	}
	name, port := tag.SplitPort(key.Host)
	suffix, wildcard := tag.Wildcard(name)
	switch {
	case port != "":
		key.Host = name
		next.ported = next.ported.with(port, next.ported.get(port).with(key, r))
	case wildcard:
		declared := next.names.get(suffix)
		declared.below = declared.below.with(key, r)
		next.names = next.names.with(declared)
	case tag.IsPattern(name):
		next.globs = withGlobHost(next.globs, key, r)
	default:
		declared := next.names.get(name)
		declared.exact = declared.exact.with(key, r)
		next.names = next.names.with(declared)
	}
	if next.names == nil && len(next.globs) == 0 && next.ported == nil {
		return nil
	}
	return &next
}

func withGlobHost(globs []*globHost, key tag.Key, r *Route) []*globHost {
	at, found := slices.BinarySearchFunc(globs, key.Host, func(g *globHost, host string) int { return comparePatterns(g.text, host) })
	next := slices.Clone(globs)
	if !found {
		pattern, err := tag.Compile(key.Host)
		if r == nil || err != nil {
			return globs
		}
		return slices.Insert(next, at, &globHost{text: key.Host, pattern: pattern, paths: (*paths)(nil).with(key, r)})
	}
	changed := *globs[at]
	if changed.paths = changed.paths.with(key, r); changed.paths == nil {
		return slices.Delete(next, at, at+1)
	}
	next[at] = &changed
	return next
}

// comparePatterns orders patterns of hosts by precedence: the more ordinary
// bytes, the sooner; then by text.
func comparePatterns(a, b string) int {
	if d := tag.Ordinary(b) - tag.Ordinary(a); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// best returns the route for a name, without its final dot, and a port that may
// be "".
func (h *hosts) best(name, port, path string) *Route {
	if h == nil {
		return nil
	}
	ported := h.ported.get(port)
	if ported != nil {
		if exact, _, _ := ported.names.at(name, len(name)); exact != nil {
			if r := exact.best(path); r != nil {
				return r
			}
		}
	}
	exact, below, depth := h.names.at(name, len(name))
	if r := exact.best(path); r != nil {
		return r
	}
	if ported != nil {
		_, below, depth := ported.names.at(name, len(name))
		if r := ported.bestBelow(name, path, below, depth); r != nil {
			return r
		}
	}
	if r := h.bestBelow(name, path, below, depth); r != nil {
		return r
	}
	if ported != nil {
		if r := ported.bestGlob(name, path); r != nil {
			return r
		}
	}
	return h.bestGlob(name, path)
}

// bestBelow tries a wildcard, then those above it.
func (h *hosts) bestBelow(name, path string, below *paths, depth int) *Route {
	for below != nil {
		if r := below.best(path); r != nil {
			return r
		}
		_, below, depth = h.names.at(name, depth)
	}
	return nil
}

func (h *hosts) bestGlob(name, path string) *Route {
	for _, g := range h.globs {
		if g.pattern.MatchLower(name) {
			if r := g.paths.best(path); r != nil {
				return r
			}
		}
	}
	return nil
}
