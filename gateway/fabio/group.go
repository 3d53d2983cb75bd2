package fabio

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// option is one part of a group: key=value. The first may be a value alone.
type option struct{ key, value string }

// group is one item of a list, such as one listener: options in their order.
type group []option

// get returns the value of a key, "" if there is none. Of several the last counts.
func (g group) get(key string) string {
	value := ""
	for _, o := range g {
		if o.key == key {
			value = o.value
		}
	}
	return value
}

// parseGroups reads the form of proxy.addr, proxy.cs and proxy.auth: groups
// separated by commas, options by semicolons, values in quotes where they hold
// either.
func parseGroups(text string) ([]group, error) {
	var groups []group
	var current group
	for rest := text; ; {
		item, end, left, err := nextItem(rest)
		if err != nil {
			return nil, err
		}
		key, value, found := strings.Cut(item, "=")
		key = strings.TrimSpace(key)
		switch {
		case strings.TrimSpace(item) == "":
		case !found && len(current) == 0:
			value, err = unquote(key)
			current = append(current, option{"", value})
		case !found:
			return nil, fmt.Errorf("%q has no value", key)
		default:
			value, err = unquote(strings.TrimSpace(value))
			current = append(current, option{key, value})
		}
		if err != nil {
			return nil, err
		}
		if end != ';' && len(current) > 0 {
			groups, current = append(groups, current), nil
		}
		if end == 0 {
			return groups, nil
		}
		rest = left
	}
}

// nextItem cuts at the first comma or semicolon outside of quotes. A quote counts
// only where a value begins.
func nextItem(text string) (item string, end byte, rest string, err error) {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ',', ';':
			return text[:i], c, text[i+1:], nil
		case '"', '\'':
			if before := strings.TrimSpace(text[:i]); before != "" && !strings.HasSuffix(before, "=") {
				continue
			}
			for i++; i < len(text) && text[i] != c; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			if i >= len(text) {
				return "", 0, "", errors.New("a quote is not closed")
			}
		}
	}
	return text, 0, "", nil
}

func unquote(value string) (string, error) {
	if len(value) < 2 || value[0] != '"' && value[0] != '\'' || value[len(value)-1] != value[0] {
		return value, nil
	}
	if value[0] == '\'' {
		return value[1 : len(value)-1], nil
	}
	plain, err := strconv.Unquote(value)
	if err != nil {
		return "", fmt.Errorf("%s is not well quoted", value)
	}
	return plain, nil
}
