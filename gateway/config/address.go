package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Address is where a listener binds: an IP address, or every address of the node,
// and a port. It is comparable.
type Address struct {
	// Host is not valid where the listener binds to every address, IPv4 and IPv6.
	Host netip.Addr
	// Port is chosen by the kernel if it is 0.
	Port uint16
}

// ParseAddress reads "IP:PORT", "[IPv6]:PORT" or ":PORT". A name is refused: what
// it resolves to is not known before the process runs, and may change.
func ParseAddress(text string) (Address, error) {
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 {
		return Address{}, errors.New("there is no port; want IP:PORT, [IPv6]:PORT or :PORT")
	}
	host, port := text[:colon], text[colon+1:]
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return Address{}, fmt.Errorf("port %q is no number from 0 to 65535", port)
	}
	a := Address{Port: uint16(n)}
	if host == "" {
		return a, nil
	}
	bare, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		bare, bracketed = strings.CutSuffix(bare, "]")
	}
	a.Host, err = netip.ParseAddr(bare)
	switch {
	case err != nil:
		return Address{}, fmt.Errorf("%q is no IP address; want IP:PORT, [IPv6]:PORT or :PORT for every address", host)
	case a.Host.Is4() == bracketed:
		return Address{}, fmt.Errorf("%q: brackets belong around an IPv6 address, and around no other", host)
	case a.Host.Zone() != "":
		return Address{}, fmt.Errorf("%q has a zone", host)
	}
	a.Host = a.Host.Unmap()
	return a, nil
}

// String returns the form that ParseAddress and net.Listen read.
func (a Address) String() string {
	if !a.Host.IsValid() {
		return ":" + strconv.Itoa(int(a.Port))
	}
	return netip.AddrPortFrom(a.Host, a.Port).String()
}

// Network returns the network for net.Listen: an IPv4 address binds to IPv4 alone,
// even 0.0.0.0, with which net.Listen would take IPv6 as well.
func (a Address) Network() string {
	switch {
	case !a.Host.IsValid():
		return "tcp"
	case a.Host.Is4():
		return "tcp4"
	}
	return "tcp6"
}

// Loopback reports whether only this node reaches the address.
func (a Address) Loopback() bool { return a.Host.IsValid() && a.Host.IsLoopback() }

// Overlaps reports whether two listeners cannot have a and b at once.
func (a Address) Overlaps(b Address) bool {
	if a.Port != b.Port || a.Port == 0 {
		return false
	}
	return a.Host == b.Host || a.covers(b) || b.covers(a)
}

// covers reports whether a is every address of the family, or families, of b.
func (a Address) covers(b Address) bool {
	switch {
	case !a.Host.IsValid():
		return true
	case !a.Host.IsUnspecified() || !b.Host.IsValid():
		return false
	}
	return a.Host.Is4() == b.Host.Is4()
}
