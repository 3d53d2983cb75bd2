package tag

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// canonicalHost returns the form of a declared host in which requests are
// compared with it: lower case, without a final dot, and without the ports that
// clients leave out.
func canonicalHost(host string) (string, error) {
	if host == "" {
		return "", nil
	}
	name, port, err := cutPort(strings.ToLower(host))
	if err != nil {
		return "", err
	}
	if len(name) > 1 {
		name = strings.TrimSuffix(name, ".")
	}
	if err := checkHostName(name); err != nil {
		return "", err
	}
	if port == "" || port == "80" || port == "443" {
		return name, nil
	}
	return name + ":" + port, nil
}

// cutPort splits a declared host. Unlike SplitPort it refuses what is no port.
func cutPort(host string) (name, port string, err error) {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || i < strings.LastIndexByte(host, ']') {
		return host, "", nil
	}
	port, err = canonicalPort(host[i+1:])
	return host[:i], port, err
}

func canonicalPort(port string) (string, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '+' {
		return "", fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	return strconv.FormatUint(n, 10), nil
}

func checkHostName(name string) error {
	if name == "" || len(name) > 253 {
		return errors.New("the host is empty or too long")
	}
	if inner, ok := strings.CutPrefix(name, "["); ok && strings.HasSuffix(name, "]") && strings.Contains(name, ":") {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !addr.Is6() || addr.Zone() != "" || addr.String() != strings.TrimSuffix(inner, "]") {
			return fmt.Errorf("host %q is not an IPv6 address in its shortest form", name)
		}
		return nil
	}
	literal := name
	if suffix, ok := Wildcard(name); ok {
		literal = suffix[1:]
	} else if strings.ContainsAny(name, special) {
		return checkHostPattern(name)
	}
	for label := range strings.SplitSeq(literal, ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return fmt.Errorf("host %q is not a host name", name)
		}
		for _, c := range []byte(label) {
			if !isHostByte(c) {
				return fmt.Errorf("host %q is not a host name: it holds %q", name, c)
			}
		}
	}
	return nil
}

func checkHostPattern(name string) error {
	for _, c := range []byte(name) {
		if !isHostByte(c) && strings.IndexByte(".,!"+special, c) < 0 {
			return fmt.Errorf("host %q is no pattern: it holds %q", name, c)
		}
	}
	if _, err := Compile(name); err != nil {
		return fmt.Errorf("host %q is no pattern: %w", name, err)
	}
	return nil
}

func isHostByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// expand replaces $DC and ${DC}. Fabio replaces every other variable by nothing,
// which makes another route of a misspelt one; here it is refused.
func expand(text, datacenter string) (string, error) {
	before, rest, found := strings.Cut(text, "$")
	if !found {
		return text, nil
	}
	name := rest
	if inner, braced := strings.CutPrefix(rest, "{"); braced {
		if name, rest, found = strings.Cut(inner, "}"); !found {
			return "", errors.New("a variable has no closing brace")
		}
	} else {
		end := 0
		for end < len(rest) && (isHostByte(rest[end]|0x20) && rest[end] != '-') {
			end++
		}
		name, rest = rest[:end], rest[end:]
	}
	if name != "DC" {
		return "", fmt.Errorf("variable %q is unknown; only $DC is", name)
	}
	if datacenter == "" {
		return "", errors.New("$DC is used but the datacenter is not known")
	}
	rest, err := expand(rest, datacenter)
	return before + datacenter + rest, err
}
