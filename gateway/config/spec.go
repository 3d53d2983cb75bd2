package config

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// parseSpec reads an address and its options. Values hold no semicolon, and are
// written without quotes.
func parseSpec(text string, address *Address, options []option) error {
	first, rest, _ := strings.Cut(text, ";")
	parsed, err := ParseAddress(strings.TrimSpace(first))
	if err != nil {
		return fmt.Errorf("address %q: %w", strings.TrimSpace(first), err)
	}
	*address = parsed
	seen := map[string]bool{}
	for part := range strings.SplitSeq(rest, ";") {
		name, value, found := strings.Cut(part, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if name == "" && !found {
			continue
		}
		o, err := optionOf(options, name)
		switch {
		case err != nil:
			return err
		case !found || value == "":
			return fmt.Errorf("option %s has no value; want %s=%s", name, name, o.value)
		case seen[name] && !o.repeat:
			return fmt.Errorf("option %s is given twice", name)
		}
		seen[name] = true
		if err := o.set(value); err != nil {
			return fmt.Errorf("option %s=%s: %w", name, value, err)
		}
	}
	return nil
}

func optionOf(options []option, name string) (option, error) {
	names := make([]string, 0, len(options))
	for _, o := range options {
		if o.name == name {
			return o, nil
		}
		names = append(names, o.name)
	}
	if name == "key" {
		return option{}, errors.New("option key belongs to a certificate: cert=FILE,key=FILE")
	}
	return option{}, fmt.Errorf("option %q is unknown%s", name, suggestion(name, names, ""))
}

// writeOptions returns what parseSpec reads behind the address.
func writeOptions(options []option) string {
	var b strings.Builder
	for _, o := range options {
		for _, value := range o.get() {
			if value != "" {
				b.WriteString(";" + o.name + "=" + value)
			}
		}
	}
	return b.String()
}

func boolOption(name, usage string, field *bool) option {
	return option{
		name: name, value: "true", usage: usage,
		set: func(text string) (err error) { *field, err = parseBool(text); return err },
		get: func() []string {
			if *field {
				return []string{"true"}
			}
			return nil
		},
	}
}

func pathOption(name, value, usage string, field *string) option {
	return option{
		name: name, value: value, usage: usage,
		set: func(text string) error { *field = text; return nil },
		get: func() []string { return []string{*field} },
	}
}

func timeOption(name, usage string, field *time.Duration) option {
	return option{
		name: name, value: "DUR", usage: usage,
		set: func(text string) (err error) {
			*field, err = parseDuration(text, time.Millisecond, maxListenerTime)
			return err
		},
		get: func() []string { return unlessZero(*field, field.String()) },
	}
}

func unlessZero[T comparable](value T, text string) []string {
	var zero T
	if value == zero {
		return nil
	}
	return []string{text}
}
