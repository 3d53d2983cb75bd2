package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// checkText refuses what cannot be given back in a file or in an environment
// variable as it came.
func checkText(text string) error {
	switch {
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("it holds a control character")
	case strings.TrimSpace(text) != text || strings.TrimFunc(text, unicode.IsSpace) != text:
		return errors.New("it begins or ends with a blank")
	}
	return nil
}

func parseBool(text string) (bool, error) {
	switch text {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errors.New("want true or false")
}

func parseInt(text string, least, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("want a whole number from %d to %d", least, most)
	}
	return n, nil
}

func parseFloat(text string, least, most float64) (float64, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || f < least || f > most {
		return 0, fmt.Errorf("want a number from %s to %s", floatText(least), floatText(most))
	}
	return f + 0, nil // not -0
}

func floatText(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func parseDuration(text string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, errors.New("want a number with its unit, as in 250ms, 30s or 5m")
	case d < least || d > most:
		return 0, fmt.Errorf("want a time from %s to %s", durationText(least), durationText(most))
	}
	return d, nil
}

// units are those of a size, the largest first.
func units() []string { return []string{"GiB", "MiB", "KiB", ""} }

func unitBytes(i int) int64 { return 1 << (10 * (len(units()) - 1 - i)) }

// parseSize reads bytes, as in 65536, 64KiB or 1GiB.
func parseSize(text string, least, most int64) (int64, error) {
	for i, unit := range units() {
		number, ok := strings.CutSuffix(text, unit)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(number, 10, 64)
		switch {
		case err != nil || n < 0 || n > math.MaxInt64/unitBytes(i):
			return 0, errors.New("want bytes, as in 65536, 64KiB, 10MiB or 1GiB")
		case n*unitBytes(i) < least || n*unitBytes(i) > most:
			return 0, fmt.Errorf("want from %s to %s", sizeText(least), sizeText(most))
		}
		return n * unitBytes(i), nil
	}
	return 0, nil // not reached: the last unit is a suffix of everything
}

// sizeText returns the shortest form that parseSize reads.
func sizeText(n int64) string {
	for i, unit := range units() {
		if n != 0 && n%unitBytes(i) == 0 {
			return strconv.FormatInt(n/unitBytes(i), 10) + unit
		}
	}
	return "0"
}

func oneOf(text string, allowed []string) error {
	if !slices.Contains(allowed, text) {
		return fmt.Errorf("want one of %s%s", strings.Join(allowed, ", "), suggestion(text, allowed, ""))
	}
	return nil
}

// parseList reads words separated by commas; each may occur once.
func parseList(text string, check func(word string) error) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	var words []string
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		switch {
		case word == "":
			return nil, errors.New("one of the words between the commas is empty")
		case slices.Contains(words, word):
			return nil, fmt.Errorf("%q is given twice", word)
		}
		if err := check(word); err != nil {
			return nil, fmt.Errorf("%q: %w", word, err)
		}
		words = append(words, word)
	}
	return words, nil
}

// Suggestion returns `; do you mean "near"?` if one of known is near to word, else
// nothing.
func Suggestion(word string, known []string) string { return suggestion(word, known, "") }

// suggestion returns `; do you mean "PREFIXnear"?` if one of known is near to
// word, else nothing.
func suggestion(word string, known []string, prefix string) string {
	best, least := "", max(2, len(word)/3)+1
	for _, candidate := range known {
		if d := distance(strings.ToLower(word), candidate); d < least {
			best, least = candidate, d
		}
	}
	if best == "" || best == word {
		return ""
	}
	return fmt.Sprintf("; do you mean %q?", prefix+best)
}

// distance returns how many bytes have to be put in, taken out, changed, or
// swapped with their neighbour to make b of a (optimal string alignment).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return math.MaxInt // no name is as long, and time is not to depend on it
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
