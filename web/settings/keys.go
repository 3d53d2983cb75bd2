package settings

import (
	"fmt"
	"strings"
)

// Key is one key, for whoever sets it.
type Key struct {
	// Name is the full key.
	Name string
	// Meaning is what it does; Takes is what values it has; both without a full stop.
	Meaning, Takes string
	// Default is the value of a key that is not set, as a Report shows it.
	Default string
	// Words are the values of a key that has a fixed set of them. Many says that a
	// value is some of them, with commas between.
	Words []string
	Many  bool
}

// Known returns every key, in the order of the page that shows them.
func Known() []Key {
	var known []Key
	for _, k := range keys() {
		described := describe(k.name)
		described.Name, described.Default = Prefix+k.name, k.show(Defaults())
		known = append(known, described)
	}
	return known
}

func describe(name string) Key {
	booleans := []string{"true", "false"}
	switch name {
	case "debug":
		return Key{Meaning: "error pages show the request's ID and the inner reason, the log is at debug", Takes: "true or false", Words: booleans}
	case "allowed_hosts":
		return Key{
			Meaning: "host names that web answers to; others get 421",
			Takes:   fmt.Sprintf("* for any, or 1 to %d host names, separated by commas or white space; .example.org is that and all below it", maxHosts),
		}
	case "installed_apps":
		return Key{
			Meaning: "parts that are served; the others are 404, and feed needs blog", Takes: "some of " + strings.Join(Defaults().InstalledApps, ", "),
			Words: Defaults().InstalledApps, Many: true,
		}
	case "tagline":
		return Key{Meaning: "line under the heading of the topology page", Takes: fmt.Sprintf("a line of at most %d characters", maxTagline)}
	case "read_preference":
		return Key{Meaning: "which member serves readers who have not chosen", Takes: "nearest or primary", Words: []string{"nearest", "primary"}}
	case "maintenance":
		return Key{Meaning: "everything but the administration is 503", Takes: "true or false", Words: booleans}
	default:
		return Key{}
	}
}

// Judge says what a value of a key would be in force as: a process judges it by the
// same code. An error says why it would be refused, and what is taken where that is not
// plain from it; a key that there is none is one, too.
func Judge(name string, value []byte) (inForce string, err error) {
	for _, k := range keys() {
		if Prefix+k.name != name {
			continue
		}
		judged := Defaults()
		if err := parse(k, &judged, value); err != nil {
			return "", err
		}
		return k.show(judged), nil
	}
	return "", fmt.Errorf("no key %q", name)
}
