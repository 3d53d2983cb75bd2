package proxyproto

import (
	"bytes"
	"net/netip"
	"strings"
)

// parseV1 reads "PROXY TCP4 CLIENT SERVER PORT PORT\r\n", with one blank between
// two words and nothing else.
func parseV1(data []byte) (h Header, n, want int, err error) {
	line, _, found := bytes.Cut(data, []byte("\r\n"))
	if len(line)+2 > maxV1 {
		return Header{}, 0, 0, malformed("version 1: it is longer than %d bytes", maxV1)
	}
	if !found {
		return Header{}, 0, missingV1(data), nil
	}
	h, err = parseLine(string(line))
	return h, len(line) + 2, 0, err
}

// missingV1 returns how many bytes must still come at least.
func missingV1(data []byte) int {
	least := minV1
	switch {
	case bytes.HasPrefix(data, []byte("PROXY TCP4 ")):
		least = len("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n")
	case bytes.HasPrefix(data, []byte("PROXY TCP6 ")):
		least = len("PROXY TCP6 :: :: 0 0\r\n")
	}
	switch {
	case len(data) < least:
		return least - len(data)
	case data[len(data)-1] == '\r':
		return 1
	}
	return 2
}

func parseLine(line string) (Header, error) {
	h := Header{Version: 1}
	for _, c := range []byte(line) {
		if c < ' ' || c > '~' {
			return h, malformed("version 1: it holds the byte 0x%02x", c)
		}
	}
	words := strings.Split(line[len(beginV1):], " ")
	if words[0] == "UNKNOWN" {
		return h, nil // whatever follows is to be ignored
	}
	if words[0] != "TCP4" && words[0] != "TCP6" {
		return h, malformed("version 1: want TCP4, TCP6 or UNKNOWN")
	}
	if len(words) != 5 {
		return h, malformed("version 1: want two addresses and two ports")
	}
	var ok bool
	if h.Client, ok = parseEnd(words[0], words[1], words[3]); !ok {
		return h, malformed("version 1: the client is no %s address and port", words[0])
	}
	if h.Server, ok = parseEnd(words[0], words[2], words[4]); !ok {
		return h, malformed("version 1: the server is no %s address and port", words[0])
	}
	return h, nil
}

func parseEnd(family, addr, port string) (netip.AddrPort, bool) {
	ip, err := netip.ParseAddr(addr)
	number, ok := parsePort(port)
	if err != nil || !ok || ip.Zone() != "" || ip.Is4() != (family == "TCP4") {
		return netip.AddrPort{}, false
	}
	return plain(netip.AddrPortFrom(ip, number)), true
}

// parsePort takes decimal digits without a leading zero.
func parsePort(text string) (uint16, bool) {
	if text == "" || len(text) > 5 || text[0] == '0' && len(text) > 1 {
		return 0, false
	}
	number := 0
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, false
		}
		number = number*10 + int(c-'0')
	}
	return uint16(number), number <= 65535
}
