package consul

import (
	"slices"
	"strings"
)

// patternOf returns a regular expression, without anchors, for names of letters that
// mean themselves, which are sorted and different. What names begin with together it
// says once: Consul takes microseconds to read each letter of an expression.
func patternOf(names []string) string {
	prefix := names[0]
	for !strings.HasPrefix(names[len(names)-1], prefix) {
		prefix = prefix[:len(prefix)-1]
	}
	if len(names) == 1 {
		return prefix
	}
	var rest []string
	for _, name := range names {
		rest = append(rest, name[len(prefix):])
	}
	optional := ""
	if rest[0] == "" {
		rest, optional = rest[1:], "?"
	}
	var parts []string
	var letters []byte // names of one letter
	for len(rest) > 0 {
		n := slices.IndexFunc(rest, func(name string) bool { return name[0] != rest[0][0] })
		if n < 0 {
			n = len(rest)
		}
		if part := patternOf(rest[:n]); len(part) == 1 {
			letters = append(letters, part[0])
		} else {
			parts = append(parts, part)
		}
		rest = rest[n:]
	}
	if len(letters) > 0 {
		parts = append(parts, classOf(letters))
	}
	if len(parts) == 1 && len(letters) > 0 {
		return prefix + parts[0] + optional
	}
	return prefix + "(" + strings.Join(parts, "|") + ")" + optional
}

// classOf returns a class of letters, which are sorted.
func classOf(letters []byte) string {
	if len(letters) == 1 {
		return string(letters)
	}
	class := "["
	if letters[0] == '-' { // between others it would be a range
		class, letters = "[-", letters[1:]
	}
	for i := 0; i < len(letters); {
		last := i
		for last+1 < len(letters) && letters[last+1] == letters[last]+1 {
			last++
		}
		class += string(letters[i])
		if last > i {
			class += "-" + string(letters[last])
		}
		i = last + 1
	}
	return class + "]"
}
