package config

import (
	"flag"
	"strconv"
	"strings"
	"time"

	"sluice/internal/service"
)

// setting is one flag, with the environment variable and the line of a file that
// say the same.
type setting struct {
	name string
	// alias is another name, "" for none.
	alias string
	group string
	// value is the form of the value in the usage text; "" is a switch.
	value string
	usage string
	// repeat allows several values.
	repeat bool
	// set reads one value into a Config; those that repeat add it.
	set func(c *Config, text string) error
	// get returns the values as set reads them.
	get func(c *Config) []string
}

// one is get for a setting with one value.
func one(text func(*Config) string) func(*Config) []string {
	return func(c *Config) []string { return []string{text(c)} }
}

func (s setting) called(alias string) setting {
	s.alias = alias
	return s
}

// in puts settings into a group of the usage text.
func in(group string, settings ...setting) []setting {
	for i := range settings {
		settings[i].group = group
	}
	return settings
}

func text(name, value, usage string, field func(*Config) *string, check func(string) error) setting {
	return setting{
		name: name, value: value, usage: usage,
		set: func(c *Config, text string) error {
			*field(c) = text
			return check(text)
		},
		get: one(func(c *Config) string { return *field(c) }),
	}
}

// anything is a check that a text always passes.
func anything(string) error { return nil }

func toggle(name, usage string, field func(*Config) *bool) setting {
	return setting{
		name: name, usage: usage,
		set: func(c *Config, text string) (err error) { *field(c), err = parseBool(text); return err },
		get: one(func(c *Config) string { return strconv.FormatBool(*field(c)) }),
	}
}

// span is the least and the most that a setting may be.
type span[T any] struct{ least, most T }

func whole(name, usage string, within span[int], field func(*Config) *int) setting {
	return setting{
		name: name, value: "N", usage: usage,
		set: func(c *Config, text string) (err error) {
			*field(c), err = parseInt(text, within.least, within.most)
			return err
		},
		get: one(func(c *Config) string { return strconv.Itoa(*field(c)) }),
	}
}

func fraction(name, usage string, within span[float64], field func(*Config) *float64) setting {
	return setting{
		name: name, value: "NUMBER", usage: usage,
		set: func(c *Config, text string) (err error) {
			*field(c), err = parseFloat(text, within.least, within.most)
			return err
		},
		get: one(func(c *Config) string { return floatText(*field(c)) }),
	}
}

func duration(name, usage string, within span[time.Duration], field func(*Config) *time.Duration) setting {
	return setting{
		name: name, value: "DUR", usage: usage,
		set: func(c *Config, text string) (err error) {
			*field(c), err = parseDuration(text, within.least, within.most)
			return err
		},
		get: one(func(c *Config) string { return durationText(*field(c)) }),
	}
}

// durationText leaves out what a person would: 5m, not 5m0s.
func durationText(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

func size(name, usage string, within span[int64], field func(*Config) *int64) setting {
	return setting{
		name: name, value: "BYTES", usage: usage,
		set: func(c *Config, text string) (err error) {
			*field(c), err = parseSize(text, within.least, within.most)
			return err
		},
		get: one(func(c *Config) string { return sizeText(*field(c)) }),
	}
}

// word is a setting that is one of a few words.
func word[T ~string](name, usage string, words []T, field func(*Config) *T) setting {
	names := make([]string, len(words))
	for i, w := range words {
		names[i] = string(w)
	}
	return setting{
		name: name, value: strings.Join(names, "|"), usage: usage,
		set: func(c *Config, text string) error {
			*field(c) = T(text)
			return oneOf(text, names)
		},
		get: one(func(c *Config) string { return string(*field(c)) }),
	}
}

// commonSettings are the flags that every process has.
func commonSettings() []setting {
	// fresh returns the flags bound to c, whose values stay.
	fresh := func(c *service.Common) *flag.FlagSet {
		kept := *c
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		c.Bind(fs)
		*c = kept
		return fs
	}
	var settings []setting
	fresh(&service.Common{}).VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		if value == "string" || value == "value" {
			value = "TEXT"
		}
		settings = append(settings, setting{
			name: f.Name, value: strings.ToUpper(value), usage: usage,
			set: func(c *Config, text string) error { return fresh(&c.Common).Lookup(f.Name).Value.Set(text) },
			get: one(func(c *Config) string { return fresh(&c.Common).Lookup(f.Name).Value.String() }),
		})
	})
	return settings
}
