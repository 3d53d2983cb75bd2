// Package route is the gateway's routing table: which instances of which
// services answer for a host and a path. It is pure: tags and instances go in,
// an immutable table comes out, and a lookup reads it without a lock.
//
// Routes come from the tags of Connect instances, in the form that Fabio made
// known: a prefix ("urlprefix-"), then "host/path" or "/path".
package route

import (
	"errors"
	"fmt"
	"strings"
)

// DefaultPrefix marks a tag as a route.
const DefaultPrefix = "urlprefix-"

// maxTag bounds a tag, which whoever may register a service can choose.
const maxTag = 1024

// ErrNotRoute means that a tag does not start with the prefix: it is no route
// and nothing is wrong with it.
var ErrNotRoute = errors.New("not a route")

// Key is what a route matches: requests for Host whose path starts with Path.
type Key struct {
	// Host is lower case, with its port if the route names one; "" matches every
	// host.
	Host string `json:"host,omitempty"`
	// Path starts with "/". It is compared as a plain string prefix, as Fabio
	// does: "/web" also takes "/website".
	Path string `json:"path"`
}

// String returns the route as it stands in a tag, without the prefix.
func (k Key) String() string { return k.Host + k.Path }

// Parse reads a tag. It is strict: a tag that asks for something that the
// gateway would not do is refused as a whole, because a route that half works is
// worse than one that is reported. ErrNotRoute tells other tags from malformed
// routes.
func Parse(prefix, tag string) (Key, error) {
	tag = strings.Trim(tag, " ")
	rest, ok := strings.CutPrefix(tag, prefix)
	if !ok {
		return Key{}, ErrNotRoute
	}
	if len(tag) > maxTag {
		return Key{}, fmt.Errorf("parse route: longer than %d bytes", maxTag)
	}
	fields := strings.FieldsFunc(rest, func(r rune) bool { return r == ' ' })
	if len(fields) == 0 || strings.HasPrefix(rest, " ") {
		return Key{}, errors.New("parse route: nothing after the prefix; want host/path or /path")
	}
	for _, option := range fields[1:] {
		if option != "proto=http" {
			return Key{}, fmt.Errorf("parse route: option %q is not supported", option)
		}
	}
	host, path, ok := strings.Cut(fields[0], "/")
	if !ok {
		return Key{}, fmt.Errorf("parse route %q: no path; want host/path or /path", fields[0])
	}
	key := Key{Host: strings.ToLower(host), Path: "/" + path}
	if err := checkHost(key.Host); err != nil {
		return Key{}, fmt.Errorf("parse route %q: %w", fields[0], err)
	}
	if err := checkPath(key.Path); err != nil {
		return Key{}, fmt.Errorf("parse route %q: %w", fields[0], err)
	}
	// A port that the request's Host never shows would make the route dead.
	key.Host = strings.TrimSuffix(key.Host, ":80")
	return key, nil
}

func checkHost(host string) error {
	if host == "" {
		return nil
	}
	name, port, hasPort := strings.Cut(host, ":")
	if hasPort && !isNumber(port) {
		return fmt.Errorf("port %q is not a number", port)
	}
	if name == "" || len(name) > 253 {
		return errors.New("the host is empty or too long")
	}
	for _, label := range strings.Split(name, ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return fmt.Errorf("host %q is not a host name", host)
		}
		for _, c := range []byte(label) {
			if !isAlphanumeric(c) && c != '-' && c != '_' {
				return fmt.Errorf("host %q is not a host name; wildcards and variables are not supported", host)
			}
		}
	}
	return nil
}

func checkPath(path string) error {
	for _, c := range []byte(path) {
		switch {
		case c <= ' ' || c == 0x7f:
			return errors.New("the path holds a control character")
		case strings.IndexByte(`?#*\$%`, c) >= 0:
			return fmt.Errorf("the path holds %q; it is compared with the decoded path as it is", c)
		}
	}
	if HasDotSegment(path) {
		return errors.New("the path holds a dot segment")
	}
	return nil
}

// HasDotSegment reports whether a decoded path has a segment "." or "..". Such
// a path can mean one thing to the gateway and another to the service.
func HasDotSegment(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

func isNumber(s string) bool {
	if s == "" || len(s) > 5 {
		return false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
}
