package acl

import (
	"net/netip"
	"strings"
)

// maxHops bounds how many trusted proxies are followed back.
const maxHops = 32

// Client returns the address of the client of a request that came from peer with
// these lines of X-Forwarded-For, in the order in which they were sent.
//
// The header is read from its right end, as far as whoever wrote an entry is in
// trusted: each proxy appends whom it was called by, so an entry is worth as much
// as the proxy to its right. The first entry that is not trusted is the client.
// If all are, it is the leftmost. An entry that is no address makes the client
// unknown, and so does a chain of more than 32 trusted proxies: then the zero
// Addr is returned, which every List refuses. Without a trusted peer the header
// counts for nothing. Client allocates nothing.
func Client(trusted Networks, peer netip.Addr, lines []string) netip.Addr {
	client := plain(peer)
	hops := 0
	for i := len(lines) - 1; i >= 0; i-- {
		rest := strings.Trim(lines[i], " \t")
		for more := rest != ""; more; {
			if !trusted.Contains(client) {
				return client
			}
			if hops++; hops > maxHops {
				return netip.Addr{}
			}
			var entry string
			if rest, entry, more = cutLast(rest); entry == "" {
				return netip.Addr{}
			}
			if client = parseEntry(entry); !client.IsValid() {
				return netip.Addr{}
			}
		}
	}
	return client
}

// cutLast takes the last entry off a list; more tells whether others are left.
func cutLast(list string) (rest, entry string, more bool) {
	comma := strings.LastIndexByte(list, ',')
	if comma < 0 {
		return "", strings.Trim(list, " \t"), false
	}
	return list[:comma], strings.Trim(list[comma+1:], " \t"), true
}

// parseEntry reads an address, bare or with a port, IPv6 also in brackets. What
// is neither gives the zero Addr.
func parseEntry(entry string) netip.Addr {
	if len(entry) > len("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535") {
		return netip.Addr{}
	}
	if inner, bracketed := strings.CutPrefix(entry, "["); bracketed && strings.HasSuffix(inner, "]") {
		addr, err := netip.ParseAddr(inner[:len(inner)-1])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return netip.Addr{}
		}
		return plain(addr)
	}
	addr, ok := parseBare(entry)
	if !ok || addr.Zone() != "" {
		return netip.Addr{}
	}
	return plain(addr)
}

// parseBare tries the port only where there can be one, because an error of
// netip allocates.
func parseBare(entry string) (netip.Addr, bool) {
	if entry[0] == '[' || strings.Count(entry, ":") == 1 {
		withPort, err := netip.ParseAddrPort(entry)
		return withPort.Addr(), err == nil
	}
	addr, err := netip.ParseAddr(entry)
	return addr, err == nil
}
