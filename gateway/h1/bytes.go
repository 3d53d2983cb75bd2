package h1

import (
	"bytes"
	"encoding/binary"
)

// The classes that a byte is in.
const (
	token  = 1 << iota // tchar of RFC 9110, section 5.6.2
	target             // 0x21 to 0x7e without '#'
	host               // what a registered name is made of here: no escapes, no sub-delims
	hex                // HEXDIG
	text               // field-vchar, SP and HTAB of RFC 9110, section 5.5
)

// classes has one byte for each byte: it is a string because a string is
// constant.
const classes = "" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x10\x13\x12\x11\x13\x13\x13\x13\x12\x12\x13\x13\x12\x17\x17\x12" +
	"\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x12\x12\x12\x12\x12\x12" +
	"\x12\x1f\x1f\x1f\x1f\x1f\x1f\x17\x17\x17\x17\x17\x17\x17\x17\x17" +
	"\x17\x17\x17\x17\x17\x17\x17\x17\x17\x17\x17\x12\x12\x12\x13\x17" +
	"\x13\x1f\x1f\x1f\x1f\x1f\x1f\x17\x17\x17\x17\x17\x17\x17\x17\x17" +
	"\x17\x17\x17\x17\x17\x17\x17\x17\x17\x17\x17\x12\x13\x12\x17\x00" +
	"\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10" +
	"\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10" +
	"\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10" +
	"\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10" +
	"\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10" +
	"\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10" +
	"\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10" +
	"\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10"

func is(c byte, class byte) bool { return classes[c]&class != 0 }

// all reports whether every byte of b is in class.
func all(b []byte, class byte) bool {
	for _, c := range b {
		if classes[c]&class == 0 {
			return false
		}
	}
	return true
}

// validText reports whether b may be a field value. It looks at eight bytes at a
// time; those among which it suspects a control byte are looked at one by one.
func validText(b []byte) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		below := (x - 0x20*ones) &^ x
		del := x ^ 0x7f*ones
		del = (del - ones) &^ del
		if (below|del)&high != 0 && !all(b[:8], text) {
			return false
		}
		b = b[8:]
	}
	return all(b, text)
}

// ended reports whether a line that ends with LF ends with CRLF. CR CR LF is refused
// here, and not with the rest of the line, because there may never be a rest: a peer
// that takes it for an empty line waits for the answer.
func ended(line []byte) bool {
	n := len(line)
	return n == 2 && line[0] == '\r' || n > 2 && line[n-2] == '\r' && line[0] != '\r'
}

// trim returns b without SP and HTAB around it.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// same reports whether a token is the name that is given in lower case. Bit 0x20
// makes capitals small and changes no other byte of a token into one that such a
// name has.
func same(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c|0x20 != lower[i] {
			return false
		}
	}
	return true
}

// equalFold reports whether a and b differ in the case of ASCII letters alone.
func equalFold[T string | []byte](a []byte, b T) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		if c != b[i] && small(c) != small(b[i]) {
			return false
		}
	}
	return true
}

func small(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// element cuts the first element off a comma-separated list and trims it.
func element(list []byte) (first, rest []byte, more bool) {
	first, rest, more = bytes.Cut(list, []byte{','})
	return trim(first), rest, more
}
