package main

import (
	"cmp"
	"math"
	"slices"
)

// median returns the middle of values, or the mean of the two in the middle; NaN
// without any.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// spread returns the distance between the least and the greatest value, as a part
// of the median: 0.1 is 10 %.
func spread(values []float64) float64 {
	if len(values) < 2 {
		return 0
	}
	return (slices.Max(values) - slices.Min(values)) / median(values)
}

// quantile returns the smallest value that at least the part q of sorted values
// does not exceed, and false without any. It never interpolates: a p99 that nobody
// measured is no p99.
func quantile[T cmp.Ordered](sorted []T, q float64) (T, bool) {
	var zero T
	if len(sorted) == 0 {
		return zero, false
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1], true
}
