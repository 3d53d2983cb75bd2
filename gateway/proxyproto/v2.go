package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// The types of what may follow the addresses that a reader must judge.
const typeCRC32C = 0x03

// parseV2 reads the binary form: signature, version and command, family, length,
// addresses, and then type-length-value items, which are checked and not used.
func parseV2(data []byte) (h Header, n, want int, err error) {
	if len(data) < prefixLen {
		// Only a whole signature tells version 2 from another protocol, and whatever
		// sends less than this has not sent a header.
		return Header{}, 0, prefixLen - len(data), nil
	}
	h.Version = 2
	version, command := data[12]>>4, data[12]&0x0f
	if version != 2 || command > 1 {
		return h, 0, 0, malformed("version 2: the byte of version and command is 0x%02x", data[12])
	}
	family, length := data[13], int(binary.BigEndian.Uint16(data[14:16]))
	n = prefixLen + length
	if n > MaxV2 {
		return h, 0, 0, malformed("version 2: it is longer than %d bytes", MaxV2)
	}
	if command == 0 {
		// LOCAL: the sender speaks for itself, and what it says of addresses is to be
		// skipped, whatever it is (section 2.2).
		if len(data) < n {
			return Header{}, 0, n - len(data), nil
		}
		return h, n, 0, nil
	}
	addresses, err := addressLength(family)
	switch {
	case err != nil:
		return h, 0, 0, err
	case length < addresses:
		return h, 0, 0, malformed("version 2: %d bytes are too few for its addresses", length)
	case len(data) < n:
		return Header{}, 0, n - len(data), nil
	}
	if err := checkItems(data[:n], prefixLen+addresses); err != nil {
		return h, 0, 0, err
	}
	h.Client, h.Server = ends(family, data[prefixLen:n])
	return h, n, 0, nil
}

// addressLength returns how many bytes of addresses a family has.
func addressLength(family byte) (int, error) {
	switch family {
	case 0x00:
		return 0, nil
	case 0x11:
		return 12, nil
	case 0x21:
		return 36, nil
	case 0x31:
		return 216, nil
	}
	return 0, malformed("version 2: family 0x%02x is not TCP", family)
}

func ends(family byte, b []byte) (client, server netip.AddrPort) {
	width := map[byte]int{0x11: 4, 0x21: 16}[family]
	if width == 0 {
		return client, server
	}
	from, _ := netip.AddrFromSlice(b[:width])
	to, _ := netip.AddrFromSlice(b[width : 2*width])
	ports := b[2*width:]
	return plain(netip.AddrPortFrom(from, binary.BigEndian.Uint16(ports))),
		plain(netip.AddrPortFrom(to, binary.BigEndian.Uint16(ports[2:])))
}

// checkItems walks over what follows the addresses. A checksum that does not fit
// refuses the header, as the protocol demands.
func checkItems(header []byte, at int) error {
	for at < len(header) {
		if len(header)-at < 3 {
			return malformed("version 2: an item is cut off")
		}
		kind, length := header[at], int(binary.BigEndian.Uint16(header[at+1:]))
		value := at + 3
		if len(header)-value < length {
			return malformed("version 2: an item is longer than the header")
		}
		if kind == typeCRC32C {
			if length != 4 || binary.BigEndian.Uint32(header[value:]) != checksum(header, value) {
				return malformed("version 2: its checksum does not fit")
			}
		}
		at = value + length
	}
	return nil
}

// checksum is the CRC-32C of the header with the checksum itself, which is at,
// taken for zero.
func checksum(header []byte, at int) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, header[:at])
	sum = crc32.Update(sum, table, make([]byte, 4))
	return crc32.Update(sum, table, header[at+4:])
}
