package route

import (
	"math"
	"testing"
)

func TestTheLeastWeightsAreSharedToo(t *testing.T) {
	targets := []Target{{Weight: math.SmallestNonzeroFloat64}, {Weight: math.SmallestNonzeroFloat64}}
	share(targets)
	for _, target := range targets {
		if target.Share != .5 {
			t.Errorf("share %g, want a half", target.Share)
		}
	}
}
