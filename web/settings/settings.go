// Package settings is what can be changed in a running web by writing to Consul's
// key/value store. It judges values and keeps the last good one of each.
package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Prefix is what the keys begin with.
const Prefix = "web/"

// The parts of web that can be switched off.
const (
	Blog     = "blog"
	Admin    = "admin"
	Topology = "topology"
	Feed     = "feed"
)

const (
	maxValue   = 4096 // bytes
	maxTagline = 120  // characters
	maxHosts   = 64
)

// Settings are the values in force. A value is immutable.
type Settings struct {
	// Debug shows requests' IDs and inner reasons on error pages, and logs at debug.
	Debug bool
	// AllowedHosts are the names that web answers to; empty is any. ".example.org"
	// is example.org and all below it.
	AllowedHosts []string
	// InstalledApps are the parts that are served.
	InstalledApps []string
	// Tagline is shown under the topology page's heading.
	Tagline string
	// ReadPreference is "nearest" or "primary".
	ReadPreference string
	// Maintenance answers everything but the administration with 503.
	Maintenance bool
}

// Defaults are the values of keys that are not set.
func Defaults() Settings {
	return Settings{InstalledApps: []string{Blog, Admin, Topology, Feed}, ReadPreference: "nearest"}
}

// Serves reports whether a part is installed.
func (s Settings) Serves(app string) bool { return slices.Contains(s.InstalledApps, app) }

// Allows reports whether web answers to a Host header.
func (s Settings) Allows(host string) bool {
	if len(s.AllowedHosts) == 0 {
		return true
	}
	name := hostName(host)
	return slices.ContainsFunc(s.AllowedHosts, func(allowed string) bool {
		if below, ok := strings.CutPrefix(allowed, "."); ok {
			return name == below || strings.HasSuffix(name, allowed)
		}
		return name == allowed
	})
}

// hostName returns the name in "name", "name:port", "[v6]" or "[v6]:port".
func hostName(host string) string {
	host = strings.ToLower(host)
	if rest, ok := strings.CutPrefix(host, "["); ok {
		name, _, _ := strings.Cut(rest, "]")
		return name
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.Count(host, ":") == 1 {
		host = host[:i]
	}
	return strings.TrimSuffix(host, ".")
}

// Item is one key, for a page that shows them.
type Item struct {
	Key string
	// Value is the one in force, as it would be written.
	Value string
	// Default says that nothing good was ever written, or that it was taken away.
	Default bool
	// Refused is the newest written value if it is not in force, and Why says what
	// is wrong with it.
	Refused, Why string
	// Since is when Value took effect here, and Index Consul's index of the answer that
	// brought it; 0 for a default that was there from the start.
	Since time.Time
	Index uint64
}

// itemOf returns the item of a key; none has the default.
func itemOf(items []Item, key string) Item {
	if i := slices.IndexFunc(items, func(item Item) bool { return item.Key == key }); i >= 0 {
		return items[i]
	}
	return Item{Key: key, Default: true}
}

// key is one setting: how it is read and written.
type key struct {
	name  string
	parse func(*Settings, string) error
	show  func(Settings) string
	copy  func(to *Settings, from Settings)
}

func keys() []key {
	return []key{
		{
			"debug", func(s *Settings, v string) error { return boolean(&s.Debug, v) },
			func(s Settings) string { return fmt.Sprint(s.Debug) }, func(to *Settings, from Settings) { to.Debug = from.Debug },
		},
		{
			"allowed_hosts", func(s *Settings, v string) (err error) { s.AllowedHosts, err = hosts(v); return err },
			func(s Settings) string { return strings.Join(s.AllowedHosts, " ") }, func(to *Settings, from Settings) { to.AllowedHosts = from.AllowedHosts },
		},
		{
			"installed_apps", func(s *Settings, v string) (err error) { s.InstalledApps, err = apps(v); return err },
			func(s Settings) string { return strings.Join(s.InstalledApps, " ") }, func(to *Settings, from Settings) { to.InstalledApps = from.InstalledApps },
		},
		{
			"tagline", func(s *Settings, v string) (err error) { s.Tagline, err = line(v); return err },
			func(s Settings) string { return s.Tagline }, func(to *Settings, from Settings) { to.Tagline = from.Tagline },
		},
		{
			"read_preference", func(s *Settings, v string) (err error) {
				s.ReadPreference, err = oneOf(v, "nearest", "primary")
				return err
			},
			func(s Settings) string { return s.ReadPreference }, func(to *Settings, from Settings) { to.ReadPreference = from.ReadPreference },
		},
		{
			"maintenance", func(s *Settings, v string) error { return boolean(&s.Maintenance, v) },
			func(s Settings) string { return fmt.Sprint(s.Maintenance) }, func(to *Settings, from Settings) { to.Maintenance = from.Maintenance },
		},
	}
}

// Parse judges what is written (by full key). A key that is not written is its
// default; one with a bad value keeps what last had. unknown are keys under Prefix
// that mean nothing.
func Parse(last Settings, lastItems []Item, written map[string][]byte) (now Settings, items []Item, unknown []string) {
	now = Defaults()
	known := map[string]bool{Prefix: true}
	for _, k := range keys() {
		item := Item{Key: Prefix + k.name, Default: true}
		known[item.Key] = true
		if raw, ok := written[item.Key]; ok {
			next := now
			if err := parse(k, &next, raw); err != nil {
				item.Refused, item.Why = printable(raw), err.Error()
				item.Default = itemOf(lastItems, item.Key).Default
				k.copy(&now, last)
			} else {
				now, item.Default = next, false
			}
		}
		item.Value = k.show(now)
		items = append(items, item)
	}
	for name := range written {
		if strings.HasPrefix(name, Prefix) && !known[name] {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return now, items, unknown
}

func parse(k key, into *Settings, raw []byte) error {
	if len(raw) > maxValue {
		return fmt.Errorf("longer than %d bytes", maxValue)
	}
	if !utf8.Valid(raw) {
		return errors.New("not valid UTF-8")
	}
	return k.parse(into, strings.TrimSpace(string(raw)))
}

func boolean(into *bool, v string) error {
	switch strings.ToLower(v) {
	case "true", "1", "on", "yes":
		*into = true
	case "false", "0", "off", "no":
		*into = false
	default:
		return errors.New("want true or false")
	}
	return nil
}

func oneOf(v string, words ...string) (string, error) {
	if !slices.Contains(words, v) {
		return "", fmt.Errorf("want %s", strings.Join(words, " or "))
	}
	return v, nil
}

// list splits at commas and white space.
func list(v string) []string {
	return strings.FieldsFunc(v, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

func apps(v string) ([]string, error) {
	all := Defaults().InstalledApps
	var chosen []string
	for _, name := range list(v) {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("%q is none of %s", short(name), strings.Join(all, ", "))
		}
		if !slices.Contains(chosen, name) {
			chosen = append(chosen, name)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("want some of %s", strings.Join(all, ", "))
	}
	return chosen, nil
}

func hosts(v string) ([]string, error) {
	names := list(strings.ToLower(v))
	if len(names) == 1 && names[0] == "*" {
		return nil, nil
	}
	if len(names) == 0 || len(names) > maxHosts {
		return nil, fmt.Errorf("want * for any, or 1 to %d host names", maxHosts)
	}
	for _, name := range names {
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-:") != "" || strings.Trim(name, ".") == "" || strings.Contains(name, "..") {
			return nil, fmt.Errorf("%q is no host name; want names as in blog.example.org, .example.org for that and all below it, or * alone", short(name))
		}
		if strings.Count(name, ":") == 1 {
			return nil, fmt.Errorf("%q has a port, which is not part of a host name", short(name))
		}
	}
	return names, nil
}

func line(v string) (string, error) {
	if utf8.RuneCountInString(v) > maxTagline {
		return "", fmt.Errorf("longer than %d characters, the most of a line", maxTagline)
	}
	if strings.ContainsFunc(v, unicode.IsControl) {
		return "", errors.New("holds a control character; want one line of text")
	}
	return v, nil
}

// short is the beginning of a word, if it is long, for an error.
func short(word string) string {
	const most = 60 // characters
	if runes := []rune(word); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return word
}

// printable is what a page and a log show of a refused value.
func printable(raw []byte) string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, strings.ToValidUTF8(string(raw[:min(len(raw), 200)]), "\uFFFD"))
	if len(raw) > 200 {
		text += "…"
	}
	return text
}
