package route

import (
	"cmp"
	"slices"
	"strings"

	"sluice/gateway/tag"
)

// paths are the routes of one host pattern, immutable.
//
// Their order of precedence: the more bytes of the path that are compared
// literally, the sooner; a pattern counts up to its first special character. Of
// equally many: exact, glob, segment, prefix, iprefix. So /shop/cart comes before
// /shop/*/items, and that before /shop/ and /.
type paths struct {
	literal *radix[atPath] // exact, segment and prefix
	folded  *radix[*Route] // iprefix, in lower case
	globs   []*globPath    // in their order of precedence
}

// atPath are the routes of one literal path.
type atPath struct{ exact, segment, prefix *Route }

type globPath struct {
	pattern tag.Pattern
	route   *Route
}

// order is the rank of a kind of match among routes with equally many literal
// bytes.
func order(m tag.Match) int {
	switch m {
	case tag.Exact:
		return 0
	case tag.Glob:
		return 1
	case tag.Segment:
		return 2
	case tag.Prefix:
		return 3
	}
	return 4
}

// literal is the number of bytes of a key's path that are compared as they are.
func literal(key tag.Key) int {
	if key.Match == tag.Glob {
		if p, err := tag.Compile(key.Path); err == nil {
			return p.Literal()
		}
	}
	return len(key.Path)
}

// compareRank orders keys of one host by precedence.
func compareRank(a, b tag.Key) int {
	return cmp.Or(
		literal(b)-literal(a),
		order(a.Match)-order(b.Match),
		len(b.Path)-len(a.Path),
		strings.Compare(a.Path, b.Path),
	)
}

// with returns the paths in which key leads to r; nil removes the key.
func (p *paths) with(key tag.Key, r *Route) *paths {
	var next paths
	if p != nil {
		next = *p
	}
	switch key.Match {
	case tag.Glob:
		next.globs = withGlob(next.globs, key, r)
	case tag.IPrefix:
		next.folded = next.folded.with(key.Path, r)
	default:
		next.literal = next.literal.with(key.Path, next.literal.get(key.Path).with(key.Match, r))
	}
	if next.literal == nil && next.folded == nil && len(next.globs) == 0 {
		return nil
	}
	return &next
}

// with returns a with another route, or none, for one kind of match.
func (a atPath) with(m tag.Match, r *Route) atPath {
	switch m {
	case tag.Exact:
		a.exact = r
	case tag.Segment:
		a.segment = r
	default:
		a.prefix = r
	}
	return a
}

func withGlob(globs []*globPath, key tag.Key, r *Route) []*globPath {
	next := slices.DeleteFunc(slices.Clone(globs), func(g *globPath) bool { return g.route.Path == key.Path })
	if r == nil {
		return next
	}
	pattern, err := tag.Compile(key.Path)
	if err != nil {
		return next
	}
	at, _ := slices.BinarySearchFunc(next, key, func(g *globPath, key tag.Key) int { return compareRank(g.route.Key, key) })
	return slices.Insert(next, at, &globPath{pattern: pattern, route: r})
}

// best returns the route that takes path before all others, or nil.
func (p *paths) best(path string) *Route {
	if p == nil {
		return nil
	}
	r, depth := longestLiteral(p.literal, path)
	if p.folded != nil {
		if f, n := longestFolded(p.folded, path); f != nil && (r == nil || n > depth) {
			r, depth = f, n
		}
	}
	for _, g := range p.globs {
		n := g.pattern.Literal()
		if r != nil && (n < depth || n == depth && r.Match == tag.Exact) {
			break
		}
		if g.pattern.Match(path) {
			return g.route
		}
	}
	return r
}

func longestLiteral(n *radix[atPath], path string) (best *Route, depth int) {
	at := 0
	for n != nil && strings.HasPrefix(path[at:], n.label) {
		at += len(n.label)
		if r := n.value.take(path, at); r != nil {
			best, depth = r, at
		}
		if at == len(path) {
			break
		}
		n = n.child(path[at])
	}
	return best, depth
}

// take returns the first of the routes that takes path, of which at bytes are
// the routes' own path.
func (a atPath) take(path string, at int) *Route {
	switch {
	case at == len(path) && a.exact != nil:
		return a.exact
	case a.segment != nil && (at == len(path) || path[at] == '/' || at > 0 && path[at-1] == '/'):
		return a.segment
	}
	return a.prefix
}

func longestFolded(n *radix[*Route], path string) (best *Route, depth int) {
	at := 0
	for n != nil && hasPrefixFolded(path[at:], n.label) {
		at += len(n.label)
		if n.value != nil {
			best, depth = n.value, at
		}
		if at == len(path) {
			break
		}
		n = n.child(tag.Lower(path[at]))
	}
	return best, depth
}

func hasPrefixFolded(text, lower string) bool {
	if len(text) < len(lower) {
		return false
	}
	for i := range len(lower) {
		if tag.Lower(text[i]) != lower[i] {
			return false
		}
	}
	return true
}
