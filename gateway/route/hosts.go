package route

import (
	"slices"
	"strings"

	"sluice/gateway/tag"
)

// hosts finds the paths of a host name, immutable. Names are kept reversed, so
// that a wildcard is a prefix of all that it takes, and one walk from the end of
// a name finds the name itself and every wildcard above it, in whatever case it
// came and without a copy.
//
// The order of precedence: the name with its port, the name, wildcards with the
// port, wildcards (the longer the sooner), patterns with the port, patterns (the
// more ordinary bytes the sooner).
type hosts struct {
	tree  *radix[atHost]
	globs []*globHost // in their order of precedence
	// ported holds what is declared for one port, by the port.
	ported *radix[hosts]
}

// atHost is what is declared for a name: for itself, or, if the name is the
// suffix of a wildcard, for all below.
type atHost struct{ exact, below *paths }

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
		key.Host = reversed(suffix)
		at := next.tree.get(key.Host)
		next.tree = next.tree.with(key.Host, at.with(at.paths().below.with(key, r), true))
	case tag.IsPattern(name):
		next.globs = withGlobHost(next.globs, key, r)
	default:
		key.Host = reversed(name)
		at := next.tree.get(key.Host)
		next.tree = next.tree.with(key.Host, at.with(at.paths().exact.with(key, r), false))
	}
	if next.tree == nil && len(next.globs) == 0 && next.ported == nil {
		return nil
	}
	return &next
}

// paths returns what is there, which may be nothing.
func (a *atHost) paths() atHost {
	if a == nil {
		return atHost{}
	}
	return *a
}

func (a *atHost) with(p *paths, below bool) *atHost {
	next := a.paths()
	if below {
		next.below = p
	} else {
		next.exact = p
	}
	if next == (atHost{}) {
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
		if exact, _, _ := ported.at(name, len(name)); exact != nil {
			if r := exact.best(path); r != nil {
				return r
			}
		}
	}
	exact, below, depth := h.at(name, len(name))
	if r := exact.best(path); r != nil {
		return r
	}
	if ported != nil {
		_, below, depth := ported.at(name, len(name))
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
		_, below, depth = h.at(name, depth)
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

// at returns what is declared for name, and for the longest wildcard that takes
// it and whose suffix is shorter than limit, with the length of that suffix.
func (h *hosts) at(name string, limit int) (exact, below *paths, depth int) {
	n, rest := h.tree, name
	for n != nil && hasReversedSuffix(rest, n.label) {
		rest = rest[:len(rest)-len(n.label)]
		read := len(name) - len(rest)
		switch v := n.value; {
		case v == nil:
		case rest == "":
			exact = v.exact
		case v.below != nil && read < limit:
			below, depth = v.below, read
		}
		if rest == "" {
			break
		}
		n = n.child(tag.Lower(rest[len(rest)-1]))
	}
	return exact, below, depth
}

// hasReversedSuffix reports whether text ends with label backwards, with A to Z
// in text taken for a to z.
func hasReversedSuffix(text, label string) bool {
	if len(text) < len(label) {
		return false
	}
	for i := range len(label) {
		if tag.Lower(text[len(text)-1-i]) != label[i] {
			return false
		}
	}
	return true
}

func reversed(text string) string {
	b := []byte(text)
	slices.Reverse(b)
	return string(b)
}
