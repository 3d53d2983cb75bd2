// Package proxyproto reads and writes the PROXY protocol, versions 1 and 2, by
// which a load balancer in front says who the client is.
// Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt.
//
// The header is believed from trusted addresses only, and a trusted address must
// send one: to guess whether there is a header would let a client write its own.
package proxyproto

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
)

// ErrMalformed means that what came is no PROXY header. The error around it says
// why.
var ErrMalformed = errors.New("malformed PROXY header")

// Header is what a PROXY header says.
type Header struct {
	// Version is 1 or 2.
	Version int
	// Client is who connected to the sender, and Server where. Both are not valid if
	// the header names nobody (UNKNOWN, LOCAL, or a family that is not TCP over IP):
	// then the addresses of the connection itself hold. IPv4-mapped addresses are
	// given as IPv4.
	Client, Server netip.AddrPort
}

// The bounds of a header, in bytes.
const (
	maxV1 = 107
	// MaxV2 is how long a version 2 header may be. The protocol would allow 65,551;
	// what senders add to the addresses (names, TLS details) fits in this.
	MaxV2 = 2048

	minV1     = len("PROXY UNKNOWN\r\n")
	prefixLen = 16
)

const (
	beginV1 = "PROXY "
	beginV2 = "\r\n\r\n\x00\r\nQUIT\n"
)

// Parse reads a header from the start of data and returns its length. want > 0
// says that data is a good beginning and that at least want more bytes belong to
// the header; then the rest is not set. Parse never asks for a byte that could
// lie behind the header.
func Parse(data []byte) (h Header, n, want int, err error) {
	switch {
	case hasBeginning(data, beginV1):
		return parseV1(data)
	case hasBeginning(data, beginV2):
		return parseV2(data)
	}
	return Header{}, 0, 0, malformed("it begins with neither version's signature")
}

// hasBeginning reports whether data begins with signature as far as it goes.
func hasBeginning(data []byte, signature string) bool {
	n := min(len(data), len(signature))
	return string(data[:n]) == signature[:n]
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Append appends the version 1 header for a connection from client to server to
// dst. Addresses of two families are written as IPv6; without a valid address the
// header says UNKNOWN.
func Append(dst []byte, client, server netip.AddrPort) []byte {
	from, to := plain(client), plain(server)
	if !from.IsValid() || !to.IsValid() {
		return append(dst, "PROXY UNKNOWN\r\n"...)
	}
	family := "TCP6 "
	if from.Addr().Is4() && to.Addr().Is4() {
		family = "TCP4 "
	}
	dst = append(append(dst, beginV1...), family...)
	for _, addr := range []netip.Addr{from.Addr(), to.Addr()} {
		if family == "TCP6 " && addr.Is4() {
			dst = append(dst, "::ffff:"...)
		}
		dst = append(addr.AppendTo(dst), ' ')
	}
	return append(appendPort(append(appendPort(dst, from.Port()), ' '), to.Port()), "\r\n"...)
}

func appendPort(dst []byte, port uint16) []byte {
	return strconv.AppendUint(dst, uint64(port), 10)
}

// plain takes what only means something on one machine, or means the same in
// another form, off an address.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
