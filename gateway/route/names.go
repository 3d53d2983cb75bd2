package route

import (
	"slices"

	"sluice/gateway/tag"
)

// names is an immutable hash table from host names, and from the suffixes of
// wildcards, to what is declared for them; nil is empty. A change copies one
// page of it. The hash is taken from the end of a name, so that one walk over a
// name yields the hashes of all its suffixes.
type names struct {
	pages [pageCount]*page
	size  int
	// wildcards is how many names have something below.
	wildcards int
}

// Enough buckets for a name each in a table of thousands of hosts, in pages that
// are cheap to copy.
const (
	pageCount   = 64
	bucketCount = 64
)

type page [bucketCount][]declaredName

// declaredName is what is declared for a name itself, and, if the name is the
// suffix of a wildcard with its leading dot, for all below.
type declaredName struct {
	hash         uint64
	text         string
	exact, below *paths
}

// The parameters of FNV-1a, which is spread by a multiplication before use.
const (
	hashStart  = 14695981039346656037
	hashFactor = 1099511628211
	hashSpread = 0x9E3779B97F4A7C15
)

func hashByte(hash uint64, c byte) uint64 { return (hash ^ uint64(c)) * hashFactor }

func hashName(text string) uint64 {
	hash := uint64(hashStart)
	for i := len(text) - 1; i >= 0; i-- {
		hash = hashByte(hash, tag.Lower(text[i]))
	}
	return hash
}

func slot(hash uint64) (page, bucket uint64) {
	spread := hash * hashSpread
	return spread >> 58, spread >> 52 & (bucketCount - 1)
}

// find returns what is declared for text, whose hash is known, in whatever case
// it is.
func (n *names) find(hash uint64, text string) *declaredName {
	p, b := slot(hash)
	if n.pages[p] == nil {
		return nil
	}
	bucket := n.pages[p][b]
	for i := range bucket {
		if d := &bucket[i]; d.hash == hash && len(d.text) == len(text) && hasPrefixFolded(text, d.text) {
			return d
		}
	}
	return nil
}

// get returns what is declared for text, which may be nothing.
func (n *names) get(text string) declaredName {
	hash := hashName(text)
	if n != nil {
		if d := n.find(hash, text); d != nil {
			return *d
		}
	}
	return declaredName{hash: hash, text: text}
}

// with returns the names in which d replaces what is declared for its text.
func (n *names) with(d declaredName) *names {
	next := &names{}
	if n != nil {
		*next = *n
	}
	p, b := slot(d.hash)
	changed := &page{}
	if next.pages[p] != nil {
		*changed = *next.pages[p]
	}
	next.pages[p] = changed
	bucket := slices.Clone(changed[b])
	if at := slices.IndexFunc(bucket, func(old declaredName) bool { return old.text == d.text }); at >= 0 {
		next.count(bucket[at], -1)
		bucket = slices.Delete(bucket, at, at+1)
	}
	if d.exact != nil || d.below != nil {
		next.count(d, 1)
		bucket = append(bucket, d)
	}
	changed[b] = slices.Clip(bucket)
	if next.size == 0 {
		return nil
	}
	return next
}

func (n *names) count(d declaredName, by int) {
	n.size += by
	if d.below != nil {
		n.wildcards += by
	}
}

// at returns what is declared for name, and for the longest wildcard that takes
// it and whose suffix is shorter than limit, with the length of that suffix.
func (n *names) at(name string, limit int) (exact, below *paths, depth int) {
	if n == nil {
		return nil, nil, 0
	}
	hash := uint64(hashStart)
	for i := len(name) - 1; i >= 0; i-- {
		c := tag.Lower(name[i])
		hash = hashByte(hash, c)
		if c != '.' || n.wildcards == 0 || i == 0 || len(name)-i >= limit {
			continue
		}
		if d := n.find(hash, name[i:]); d != nil && d.below != nil {
			below, depth = d.below, len(name)-i
		}
	}
	if d := n.find(hash, name); d != nil {
		exact = d.exact
	}
	return exact, below, depth
}
