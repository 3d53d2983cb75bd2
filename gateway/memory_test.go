package main

import (
	"slices"
	"testing"
)

func TestTheHeadroomIsSetOnceWhenATableBecomesLargeOrSmall(t *testing.T) {
	var told []int
	h := newHeadroom()
	h.set = func(percent int) int { told = append(told, percent); return 0 }
	for _, routes := range []int{0, 10, largeTable - 1, largeTable, 10 * largeTable, largeTable, 5, 0} {
		h.fit(routes)
	}
	if want := []int{largeTablePercent, smallTablePercent}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}
