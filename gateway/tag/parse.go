// Package tag reads the tags by which an instance declares its routes, in the
// grammar that Fabio made known:
//
//	urlprefix-ROUTE [OPTION ...]
//
//	/path             every host
//	host/path         one host, host:port, *.host, or a pattern
//	:port             TCP connections to that port of the gateway
//	ip:port           TCP connections to that address of the gateway
//	host proto=tcp    TLS connections that ask for that server name
//
// $DC and ${DC} in the route stand for the gateway's datacenter. Options have
// the form name=value; Options documents them.
//
// Reading is strict: a tag with an unknown, malformed or contradictory option is
// refused as a whole, because a route that half works is worse than one that is
// reported. If such a tag was meant to restrict who may use its route, the route
// is still known and must be refused to everybody (Error.Guards), lest a shorter
// route let in who should be kept out.
//
// The package is pure: it does no I/O, starts nothing and keeps nothing.
package tag

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// DefaultPrefix marks a tag as a route.
const DefaultPrefix = "urlprefix-"

const (
	// maxTag bounds a tag, which whoever may register a service can choose.
	maxTag = 1024
	// maxRead is as much of a longer one as is read to learn whether it guards.
	maxRead = 64 << 10
	// maxFaults bounds how many faults of one tag are told beside the first.
	maxFaults = 4
)

// ErrNotRoute means that a tag does not start with the prefix: it is no route
// and nothing is wrong with it.
var ErrNotRoute = errors.New("not a route")

// Route is what one tag declares.
type Route struct {
	Key
	Options Options
}

// Error says why a tag was refused.
type Error struct {
	// Option is the name of the option at fault, "" if it is the route itself.
	Option string
	// Reason names what was found and what was expected.
	Reason string
	// Guards is true if the tag names allow, deny or auth, or something that looks
	// like a slip in one of them, and its route could be read. Parse then returns
	// the route's Key beside the error, and nobody may be served there.
	Guards bool
	// More are the other options that cannot be read, each with its reason.
	More []string
}

func (e *Error) Error() string {
	if e.Option == "" {
		return "parse route: " + e.Reason
	}
	return "parse route: " + strings.Join(append([]string{e.option()}, e.More...), "; ")
}

func (e *Error) option() string { return "option " + e.Option + ": " + e.Reason }

// Parser reads tags. It is a value and safe for concurrent use.
type Parser struct {
	prefix, datacenter string
	match              Match
}

// NewParser returns a Parser for tags that begin with prefix; "" is
// DefaultPrefix. datacenter is what $DC stands for; if it is "", a tag that uses
// $DC is refused.
func NewParser(prefix, datacenter string) Parser {
	return Parser{prefix: cmp.Or(prefix, DefaultPrefix), datacenter: datacenter}
}

// Matching returns the Parser for which paths of routes without match= are
// compared in that way, where they are not guarded.
func (p Parser) Matching(m Match) Parser {
	p.match = m
	return p
}

// Parse reads a tag. It returns ErrNotRoute for a tag without the prefix and an
// *Error for one that is refused.
func (p Parser) Parse(text string) (Route, error) {
	text = strings.Trim(text, " ")
	rest, ok := strings.CutPrefix(text, p.prefix)
	if !ok {
		return Route{}, ErrNotRoute
	}
	long := len(text) > maxTag
	fields := split(rest[:min(len(rest), maxRead)])
	switch {
	case len(fields) == 0 || strings.HasPrefix(rest, " "):
		return Route{}, &Error{Reason: "nothing after the prefix; want host/path or /path"}
	case long:
		return p.tooLong(fields)
	}
	return p.read(fields[0], fields[1:])
}

// tooLong refuses a tag for its length. A list of networks is what makes a tag
// long, so it is read as far as it must be to know whether it guards its route.
func (p Parser) tooLong(fields []string) (Route, error) {
	refused := &Error{Reason: fmt.Sprintf("longer than %d bytes", maxTag)}
	r, err := p.read(fields[0], fields[1:])
	var worse *Error
	if errors.As(err, &worse) {
		refused.Guards = worse.Guards
	} else {
		refused.Guards = r.Options.Guarded()
	}
	if !refused.Guards {
		return Route{}, refused
	}
	return Route{Key: r.Key}, refused
}

// ParseRoute reads a route and its options as the override language has them:
// apart, and without a prefix.
func (p Parser) ParseRoute(route, options string) (Route, error) {
	if len(route)+len(options) > maxTag {
		return Route{}, &Error{Reason: fmt.Sprintf("longer than %d bytes", maxTag)}
	}
	if route == "" || strings.Contains(route, " ") {
		return Route{}, &Error{Reason: fmt.Sprintf("route %q is empty or holds a blank", route)}
	}
	return p.read(route, split(options))
}

func split(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ' ' })
}

// read reads the options first: they decide what the route may look like.
func (p Parser) read(route string, options []string) (Route, error) {
	r := reader{seen: map[string]bool{}, match: p.match}
	var first *Error
	for _, option := range options {
		switch err := r.option(option); {
		case err == nil:
		case first == nil:
			first = err
		case len(first.More) < maxFaults:
			first.More = append(first.More, err.option())
		}
	}
	guards := r.guards || r.options.Guarded()
	if guards && !r.seen["match"] {
		r.match = Segment
	}
	key, err := p.key(route, &r)
	if err != nil {
		return Route{}, &Error{Reason: fmt.Sprintf("%.80q: %v", route, err)}
	}
	if first == nil {
		first = r.contradiction(key)
	}
	if first != nil {
		first.Guards = guards
		if !guards {
			key = Key{}
		}
		return Route{Key: key}, first
	}
	r.complete(key)
	return Route{Key: key, Options: r.options}, nil
}

// key reads the route itself.
func (p Parser) key(route string, r *reader) (Key, error) {
	route, err := expand(route, p.datacenter)
	if err != nil {
		return Key{}, err
	}
	host, path, hasPath := strings.Cut(route, "/")
	tcp := r.options.Proto == ProtoTCP
	switch {
	case !hasPath && strings.Contains(host, ":"):
		return portKey(host)
	case !hasPath && !tcp:
		return Key{}, errors.New("no path; want host/path or /path, or proto=tcp for a server name")
	case tcp && (path != "" || host == ""):
		return Key{}, errors.New("proto=tcp; want :port, ip:port or a server name without a path")
	}
	host, err = canonicalHost(host)
	if err != nil {
		return Key{}, err
	}
	if tcp {
		if _, port := SplitPort(host); port != "" || strings.Contains(host, "[") {
			return Key{}, errors.New("proto=tcp; a server name has no port and is no address or set")
		}
		return Key{Kind: Name, Host: host}, nil
	}
	key := Key{Host: host, Path: "/" + path, Match: r.match}
	if key.Match == IPrefix {
		key.Path = fold(key.Path)
	}
	return key, checkPath(key.Path, key.Match)
}

// portKey reads ":port" and "ip:port".
func portKey(text string) (Key, error) {
	host, port, err := cutPort(text)
	if err != nil {
		return Key{}, err
	}
	if host == "" {
		return Key{Kind: Port, Host: ":" + port}, nil
	}
	addr, err := parseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	if err != nil {
		return Key{}, errors.New("no path; want :port, ip:port or host:port/path")
	}
	if addr.Is6() {
		return Key{Kind: Port, Host: "[" + addr.String() + "]:" + port}, nil
	}
	return Key{Kind: Port, Host: addr.String() + ":" + port}, nil
}
