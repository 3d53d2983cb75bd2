// Package acl decides by a client's address: which address is the client's, and
// whether it may use a route. It does no I/O, and what it does not understand it
// refuses.
package acl

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Networks is an immutable set of address ranges, IPv4 and IPv6. The zero value
// holds no address.
type Networks struct{ prefixes []netip.Prefix }

// ParseNetworks reads a list separated by commas, for example
// "10.0.0.0/8, 192.0.2.7, fd00::/8". Blank is the empty set.
func ParseNetworks(text string) (Networks, error) {
	if strings.TrimSpace(text) == "" {
		return Networks{}, nil
	}
	var prefixes []netip.Prefix
	for item := range strings.SplitSeq(text, ",") {
		prefix, err := parsePrefix(strings.TrimSpace(item))
		if err != nil {
			return Networks{}, fmt.Errorf("parse networks: %q: %w", item, err)
		}
		prefixes = append(prefixes, prefix)
	}
	return NewNetworks(prefixes)
}

// NewNetworks returns the set of all given ranges.
func NewNetworks(prefixes []netip.Prefix) (Networks, error) {
	folded := make([]netip.Prefix, 0, len(prefixes))
	for _, prefix := range prefixes {
		prefix, err := fold(prefix)
		if err != nil {
			return Networks{}, fmt.Errorf("network %s: %w", prefix, err)
		}
		folded = append(folded, prefix)
	}
	return Networks{prefixes: folded}, nil
}

// Empty reports whether the set holds no address.
func (n Networks) Empty() bool { return len(n.prefixes) == 0 }

// Contains reports whether the set holds addr. It allocates nothing.
func (n Networks) Contains(addr netip.Addr) bool {
	_, ok := n.find(plain(addr))
	return ok
}

// String returns the ranges as ParseNetworks reads them.
func (n Networks) String() string {
	texts := make([]string, 0, len(n.prefixes))
	for _, prefix := range n.prefixes {
		texts = append(texts, prefix.String())
	}
	return strings.Join(texts, ", ")
}

func (n Networks) find(addr netip.Addr) (netip.Prefix, bool) {
	i := slices.IndexFunc(n.prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
	if i < 0 {
		return netip.Prefix{}, false
	}
	return n.prefixes[i], true
}

func parsePrefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		return netip.ParsePrefix(text)
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	if addr.Zone() != "" {
		return netip.Prefix{}, errors.New("it has a zone")
	}
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}

// fold turns a range of IPv4-mapped addresses into the IPv4 range that it means,
// because plain does the same to what is compared with it.
func fold(prefix netip.Prefix) (netip.Prefix, error) {
	if !prefix.IsValid() {
		return prefix, errors.New("it is not valid")
	}
	if prefix.Addr().Is4In6() {
		if prefix.Bits() < 96 {
			return prefix, errors.New("it holds IPv4-mapped addresses and others: name the IPv4 range and the IPv6 range")
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return prefix.Masked(), nil
}

// plain is the form in which addresses are compared: an IPv4-mapped address is
// the IPv4 address, and a zone says nothing about who the client is.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }
