package proxy

import (
	"iter"
	"strings"

	"sluice/gateway/route"
)

// readings are the other paths for which lenient services take a decoded path:
// with "/" for each backslash, without parameters, without empty segments, or
// with several of these. A path in which none is has no others.
func readings(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !strings.ContainsAny(path, `\;`) && !strings.Contains(path, "//") {
			return
		}
		const slashes, parameters, empty = 1, 2, 4
		for ways := 1; ways <= slashes|parameters|empty; ways++ {
			read := path
			if ways&slashes != 0 {
				read = strings.ReplaceAll(read, `\`, "/")
			}
			if ways&parameters != 0 {
				read = withoutParameters(read)
			}
			for ways&empty != 0 && strings.Contains(read, "//") {
				read = strings.ReplaceAll(read, "//", "/")
			}
			if read != path && !yield(read) {
				return
			}
		}
	}
}

// withoutParameters cuts each segment at its first semicolon, as servlets do.
func withoutParameters(path string) string {
	if !strings.Contains(path, ";") {
		return path
	}
	segments := strings.Split(path, "/")
	for i := range segments {
		segments[i], _, _ = strings.Cut(segments[i], ";")
	}
	return strings.Join(segments, "/")
}

// climbs reports whether a path has a dot segment once strip= has taken its part:
// a strip that ends within a segment leaves "../b" of /a../b.
func (pl *plan) climbs(path string) bool {
	for _, strip := range pl.strips {
		if rest, ok := strings.CutPrefix(path, strip); ok && rest != "" && rest[0] == '.' && route.HasDotSegment(rest) {
			return true
		}
	}
	return false
}
