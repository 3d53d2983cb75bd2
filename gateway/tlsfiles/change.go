package tlsfiles

import (
	"slices"
	"strings"
	"time"
)

// Change is what files have come to after the start.
type Change struct {
	// Added and Removed name certificates, with their serial numbers. Both are empty
	// where a problem is over and what is used is what was used before.
	Added, Removed []string
	// Problem says why newer files are not used; nil if they are.
	Problem error
	// Took is from the look at the files until all went by them.
	Took time.Duration
}

// changeOf returns what became of names.
func changeOf(before, after []string) *Change {
	without := func(from, names []string) []string {
		return slices.DeleteFunc(slices.Clone(from), func(n string) bool { return slices.Contains(names, n) })
	}
	return &Change{Added: without(after, before), Removed: without(before, after)}
}

// tellIn tells of a change that is found in a look at files, if there is one.
func (c *Change) tellIn(tell func(Change), began time.Time) {
	if c == nil || tell == nil {
		return
	}
	c.Took = time.Since(began)
	tell(*c)
}

// name tells a certificate that is served from others.
func (i Info) name() string {
	of := strings.Join(i.Names, ", ")
	if of == "" {
		of = i.File
	}
	return of + " (serial " + i.Serial + ")"
}

func (s *set) names() []string {
	var names []string
	for _, info := range s.infos {
		names = append(names, info.name())
	}
	return names
}
