package main

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strconv"

	"sluice/mesh"
)

// newestTerm puts the members that the latest election made what they are first,
// others of the same term in random order. Two members can say that they are
// primary for a moment; the one with the higher term is right. Terms mean nothing
// among secondaries, where they agree.
func newestTerm(instances []mesh.Instance) []mesh.Instance {
	ordered := slices.Clone(instances)
	rand.Shuffle(len(ordered), func(i, j int) { ordered[i], ordered[j] = ordered[j], ordered[i] })
	slices.SortStableFunc(ordered, func(a, b mesh.Instance) int { return cmp.Compare(term(b), term(a)) })
	return ordered
}

// term is the election term that an instance was registered with; one that names
// none comes last.
func term(instance mesh.Instance) int64 {
	number, err := strconv.ParseInt(instance.Meta["term"], 10, 64)
	if err != nil {
		return -1
	}
	return number
}
