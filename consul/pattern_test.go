package consul

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"
)

func TestAPatternTakesItsNamesAndNoOthers(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const letters = "ab-_09"
	name := func() string {
		text := make([]byte, 1+random.IntN(5))
		for i := range text {
			text[i] = letters[random.IntN(len(letters))]
		}
		return string(text)
	}
	for range 2_000 {
		var names []string
		for range 1 + random.IntN(30) {
			names = append(names, name())
		}
		slices.Sort(names)
		names = slices.Compact(names)
		pattern := regexp.MustCompile("^(" + patternOf(names) + ")$")
		for _, n := range names {
			if !pattern.MatchString(n) {
				t.Fatalf("%s does not take %s of %q", pattern, n, names)
			}
		}
		for range 100 {
			if n := name(); pattern.MatchString(n) != slices.Contains(names, n) {
				t.Fatalf("%s takes %s, not of %q", pattern, n, names)
			}
		}
	}
}

func TestAPatternIsShortForNamesThatAreAlike(t *testing.T) {
	names := []string{"bench"}
	for n := 1; n < 100; n++ {
		names = append(names, fmt.Sprintf("bench-%02d", n))
	}
	const want = "bench(-(1[0-9]|2[0-9]|3[0-9]|4[0-9]|5[0-9]|6[0-9]|7[0-9]|8[0-9]|9[0-9]|0[1-9]))?"
	if got := patternOf(names); len(got) != len(want) {
		t.Errorf("pattern %s of %d letters, want %d", got, len(got), len(want))
	}
}
