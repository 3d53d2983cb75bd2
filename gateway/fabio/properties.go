// Package fabio reads the configuration of Fabio and says what it is here: which
// flags of the gateway mean the same, and for every property that has no equal,
// why. It does no I/O.
//
// What is here of Fabio's grammar is what its documentation and its behaviour
// show, as of version 1.7.
package fabio

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Property is one entry of a properties file.
type Property struct {
	Name, Value string
	// Line is where it begins, from 1.
	Line int
}

// maxExpanded bounds a value after expansion, in bytes, and maxReferences how many
// references one file may follow: references to references double at each step.
const (
	maxExpanded   = 64 << 10
	maxReferences = 10_000
)

// Parse reads a file in the grammar of Java properties: comments with # and !,
// names and values separated by =, : or a blank, a backslash at the end of a line
// that continues it, and the escapes \t \n \r \f \uXXXX. Entries come in the order
// of the file, names that come twice too. Values are not expanded.
func Parse(text string) ([]Property, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("parse properties: the file is not UTF-8")
	}
	text = strings.TrimPrefix(text, "\ufeff")
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	var properties []Property
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		first := i
		line := strings.TrimLeft(lines[i], " \t\f")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		for continues(line) {
			line = line[:len(line)-1]
			if i++; i == len(lines) {
				break
			}
			line += strings.TrimLeft(lines[i], " \t\f")
		}
		name, value, err := split(line)
		if err != nil {
			return nil, fmt.Errorf("parse properties: line %d: %w", first+1, err)
		}
		properties = append(properties, Property{Name: name, Value: value, Line: first + 1})
	}
	return properties, nil
}

// continues reports whether a line ends with an odd number of backslashes.
func continues(line string) bool {
	return (len(line)-len(strings.TrimRight(line, `\`)))%2 == 1
}

// split takes a logical line apart at its first =, : or blank that is not escaped.
func split(line string) (name, value string, err error) {
	end := 0
	for end < len(line) && !strings.ContainsRune("=: \t\f", rune(line[end])) {
		if line[end] == '\\' {
			end++
		}
		end++
	}
	end = min(end, len(line))
	rest := strings.TrimLeft(line[end:], " \t\f")
	if rest != "" && (rest[0] == '=' || rest[0] == ':') {
		rest = strings.TrimLeft(rest[1:], " \t\f")
	}
	if name, err = unescape(line[:end]); err != nil {
		return "", "", err
	}
	if name == "" {
		return "", "", errors.New("it has no name")
	}
	value, err = unescape(rest)
	return name, value, err
}

func unescape(text string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			b.WriteByte(text[i])
			continue
		}
		if i++; i == len(text) {
			break // a continuation at the end of the file
		}
		switch c := text[i]; c {
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			if i+4 >= len(text) {
				return "", errors.New(`\u wants four hexadecimal digits`)
			}
			code, err := strconv.ParseUint(text[i+1:i+5], 16, 16)
			if err != nil {
				return "", errors.New(`\u wants four hexadecimal digits`)
			}
			b.WriteRune(rune(code))
			i += 4
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

// expander replaces ${NAME} by the value of another property, else of the
// environment, as Fabio does.
type expander struct {
	values   map[string]string
	getenv   func(string) string
	followed int
}

// expand returns an error for a reference that leads back to itself, for one that
// is not closed, and for one to nothing.
func (e *expander) expand(value string, within []string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(value, "${")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, rest, closed := strings.Cut(rest, "}")
		if !closed {
			return "", errors.New("${ is not closed")
		}
		for _, outer := range within {
			if outer == name {
				return "", fmt.Errorf("${%s} leads back to itself", name)
			}
		}
		if e.followed++; e.followed > maxReferences {
			return "", fmt.Errorf("the file follows more than %d references", maxReferences)
		}
		inner, known := e.values[name]
		if !known {
			if inner = e.getenv(name); inner == "" {
				return "", fmt.Errorf("${%s} is neither a property nor in the environment", name)
			}
		} else {
			var err error
			if inner, err = e.expand(inner, append(within, name)); err != nil {
				return "", err
			}
		}
		b.WriteString(inner)
		if b.Len() > maxExpanded {
			return "", fmt.Errorf("it expands to more than %d bytes", maxExpanded)
		}
		value = rest
	}
}
