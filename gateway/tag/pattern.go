package tag

import (
	"errors"
	"fmt"
	"strings"
)

// special are the characters that make a pattern of a host.
const special = "*?[]{}"

// maxAlternatives bounds what the braces of one pattern expand to.
const maxAlternatives = 32

// maxPattern bounds a pattern's text, and with it the time of one comparison.
const maxPattern = 512

// Pattern is a compiled glob: * is any text, slashes and dots included, ? is one
// byte, [a-z] and [!a-z] one byte of a set, {a,b} either text. It covers the
// whole text. The zero Pattern matches only "". A Pattern is immutable.
//
// The language is the one of Fabio's globs, without escapes.
type Pattern struct {
	alternatives []string
	literal      int
}

// Compile reads a pattern and refuses what would not mean what it looks like: a
// bracket or a brace without its partner, nested braces, an empty set.
func Compile(text string) (Pattern, error) {
	if len(text) > maxPattern {
		return Pattern{}, fmt.Errorf("it is longer than %d bytes", maxPattern)
	}
	alternatives, err := alternatives(text)
	if err != nil {
		return Pattern{}, err
	}
	for i, alternative := range alternatives {
		if err := checkSets(alternative); err != nil {
			return Pattern{}, err
		}
		for strings.Contains(alternative, "**") {
			alternative = strings.ReplaceAll(alternative, "**", "*")
		}
		alternatives[i] = alternative
	}
	literal := strings.IndexAny(text, special)
	if literal < 0 {
		literal = len(text)
	}
	return Pattern{alternatives: alternatives, literal: literal}, nil
}

// Literal is the number of bytes before the first special character: every text
// that matches begins with them.
func (p Pattern) Literal() int { return p.literal }

// Match reports whether the whole of text matches. It allocates nothing and
// takes at most len(pattern) * len(text) steps.
func (p Pattern) Match(text string) bool { return p.match(text, false) }

// MatchLower is Match that takes A to Z in text for a to z.
func (p Pattern) MatchLower(text string) bool { return p.match(text, true) }

func (p Pattern) match(text string, lower bool) bool {
	for _, alternative := range p.alternatives {
		if matchOne(alternative, text, lower) {
			return true
		}
	}
	return len(p.alternatives) == 0 && text == ""
}

// matchOne remembers only the last *: what an earlier one took need never be
// given back, because the later one can take it as well.
func matchOne(pattern, text string, lower bool) bool {
	p, t, star, taken := 0, 0, -1, 0
	for t < len(text) {
		c := text[t]
		if lower {
			c = Lower(c)
		}
		if p < len(pattern) && pattern[p] == '*' {
			star, taken = p, t
			p++
			continue
		}
		if width, ok := matchByte(pattern[p:], c); ok {
			p += width
			t++
			continue
		}
		if star < 0 {
			return false
		}
		taken++
		p, t = star+1, taken
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchByte compares one byte with the first element of a pattern and returns
// how long that element is.
func matchByte(pattern string, c byte) (width int, ok bool) {
	if pattern == "" {
		return 0, false
	}
	switch pattern[0] {
	case '?':
		return 1, true
	case '[':
		end := strings.IndexByte(pattern, ']')
		set, negated := strings.CutPrefix(pattern[1:end], "!")
		return end + 1, inSet(set, c) != negated
	}
	return 1, pattern[0] == c
}

func inSet(set string, c byte) bool {
	for i := 0; i < len(set); i++ {
		if i+2 < len(set) && set[i+1] == '-' {
			if set[i] <= c && c <= set[i+2] {
				return true
			}
			i += 2
		} else if set[i] == c {
			return true
		}
	}
	return false
}

func checkSets(pattern string) error {
	for {
		open := strings.IndexAny(pattern, "[]")
		if open < 0 {
			return nil
		}
		if pattern[open] == ']' {
			return errors.New("a ] has no [")
		}
		set, rest, found := strings.Cut(pattern[open+1:], "]")
		if !found {
			return errors.New("a [ has no ]")
		}
		set = strings.TrimPrefix(set, "!")
		if set == "" || strings.ContainsAny(set, "[*?") {
			return errors.New("a set in brackets is empty or holds a special character")
		}
		pattern = rest
	}
}

// alternatives expands the braces of a pattern.
func alternatives(text string) ([]string, error) {
	open := strings.IndexAny(text, "{}")
	if open < 0 {
		return []string{text}, nil
	}
	inner, rest, found := strings.Cut(text[open+1:], "}")
	if text[open] == '}' || !found || strings.Contains(inner, "{") {
		return nil, errors.New("a brace has no partner, or braces are nested")
	}
	if strings.ContainsAny(inner, "[]") {
		return nil, errors.New("a bracket is inside braces")
	}
	tails, err := alternatives(rest)
	if err != nil {
		return nil, err
	}
	var all []string
	for choice := range strings.SplitSeq(inner, ",") {
		for _, tail := range tails {
			all = append(all, text[:open]+choice+tail)
		}
	}
	if len(all) > maxAlternatives {
		return nil, fmt.Errorf("the braces make more than %d texts", maxAlternatives)
	}
	return all, nil
}

// Lower returns c with A to Z in lower case.
func Lower(c byte) byte {
	if c-'A' < 26 {
		return c + 'a' - 'A'
	}
	return c
}

// fold returns text with A to Z in lower case, and nothing else changed.
func fold(text string) string {
	b := []byte(text)
	for i, c := range b {
		b[i] = Lower(c)
	}
	return string(b)
}

// IsPattern reports whether a host holds a special character and is no IPv6
// address in its brackets.
func IsPattern(host string) bool {
	return strings.ContainsAny(host, special) && !strings.Contains(host, ":")
}

// Ordinary is the number of bytes of a pattern that are not special.
func Ordinary(pattern string) int {
	n := 0
	for _, c := range []byte(pattern) {
		if strings.IndexByte(special, c) < 0 {
			n++
		}
	}
	return n
}
