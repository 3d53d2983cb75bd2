package tag

import (
	"errors"
	"fmt"
	"strings"
)

// Kind tells what is compared with a Key.
type Kind uint8

const (
	// HTTP routes are found by the Host and the decoded path of a request.
	HTTP Kind = iota
	// Port routes are found by the address that a TCP connection came to.
	Port
	// Name routes are found by the server name (SNI) of a TLS connection, which
	// is passed on as it is.
	Name
)

// String returns "http", "port" or "name".
func (k Kind) String() string {
	switch k {
	case HTTP:
		return "http"
	case Port:
		return "port"
	case Name:
		return "name"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// MarshalText returns String.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Match is how a route's path is compared with the decoded path of a request.
type Match uint8

const (
	// Prefix compares plain text, as Fabio does: /foo also takes /foobar.
	Prefix Match = iota
	// Segment takes whole segments: /foo takes /foo and /foo/bar, not /foobar.
	Segment
	// IPrefix is Prefix that takes A to Z for a to z; its Path is in lower case.
	IPrefix
	// Glob compares the whole path with a Pattern, whose * crosses slashes.
	Glob
	// Exact takes the very path.
	Exact
)

// String returns the word of the option match=.
func (m Match) String() string {
	switch m {
	case Prefix:
		return "prefix"
	case Segment:
		return "segment"
	case IPrefix:
		return "iprefix"
	case Glob:
		return "glob"
	case Exact:
		return "exact"
	}
	return fmt.Sprintf("match %d", uint8(m))
}

// MarshalText returns String.
func (m Match) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// Key is what a route takes. Two declarations with equal keys are one route.
type Key struct {
	// Host is lower case: "" for every host, "example.com", "example.com:8443",
	// "*.example.com" or a Pattern. A Port route has ":3306" or "10.0.0.1:3306".
	Host string `json:"host,omitempty"`
	// Path starts with "/" in an HTTP route and is "" in others.
	Path  string `json:"path"`
	Match Match  `json:"match,omitempty"`
	Kind  Kind   `json:"kind,omitempty"`
}

// String returns the shortest tag without its prefix that declares the key.
func (k Key) String() string {
	switch {
	case k.Kind == Name:
		return k.Host + " proto=tcp"
	case k.Match != Prefix:
		return k.Host + k.Path + " match=" + k.Match.String()
	}
	return k.Host + k.Path
}

// Compare orders keys by host, path, match and kind.
func (k Key) Compare(other Key) int {
	if c := strings.Compare(k.Host, other.Host); c != 0 {
		return c
	}
	if c := strings.Compare(k.Path, other.Path); c != 0 {
		return c
	}
	if k.Match != other.Match {
		return int(k.Match) - int(other.Match)
	}
	return int(k.Kind) - int(other.Kind)
}

// Wildcard reports whether host is "*." followed by a name without any other
// special character, and returns the name with its leading dot. Such a host
// takes every name below, at any depth.
func Wildcard(host string) (suffix string, ok bool) {
	if !strings.HasPrefix(host, "*.") || strings.ContainsAny(host[1:], special) {
		return "", false
	}
	return host[1:], true
}

// SplitPort cuts the port off a host, as a request or a Key has it. The port
// comes without its colon and is "" where there is none; brackets stay with the
// name. It allocates nothing.
func SplitPort(host string) (name, port string) {
	i := len(host)
	for i > 0 && host[i-1] >= '0' && host[i-1] <= '9' {
		i--
	}
	if i == 0 || host[i-1] != ':' {
		return host, ""
	}
	return host[:i-1], host[i:]
}

// HasDotSegment reports whether a decoded path has a segment "." or "..". Such
// a path can mean one thing to the gateway and another to the service. A backslash
// ends a segment as well, and what follows a semicolon is none of it: so some
// services read them.
func HasDotSegment(path string) bool {
	if !strings.HasPrefix(path, ".") && !strings.Contains(path, "/.") && !strings.Contains(path, `\.`) {
		return false
	}
	for segment := range strings.FieldsFuncSeq(path, func(c rune) bool { return c == '/' || c == '\\' }) {
		if segment, _, _ = strings.Cut(segment, ";"); segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

func checkPath(path string, match Match) error {
	for _, c := range []byte(path) {
		switch {
		case c <= ' ' || c == 0x7f:
			return errors.New("the path holds a control character")
		case strings.IndexByte(`#\$%`, c) >= 0:
			return fmt.Errorf("the path holds %q; it is compared with the decoded path as it is", c)
		case (c == '*' || c == '?') && match != Glob:
			return fmt.Errorf("the path holds %q, which only match=glob allows", c)
		}
	}
	if HasDotSegment(path) {
		return errors.New("the path holds a dot segment")
	}
	if match == Glob {
		if _, err := Compile(path); err != nil {
			return fmt.Errorf("the path is no pattern: %w", err)
		}
	}
	return nil
}

// UnmarshalText reads what String returns.
func (m *Match) UnmarshalText(text []byte) error {
	got, err := matchValue(string(text))
	if err == nil {
		*m = got
	}
	return err
}

// UnmarshalText reads what String returns.
func (k *Kind) UnmarshalText(text []byte) error {
	for kind := HTTP; kind <= Name; kind++ {
		if kind.String() == string(text) {
			*k = kind
			return nil
		}
	}
	return fmt.Errorf("kind %q: want http, port or name", text)
}
