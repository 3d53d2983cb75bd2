package accesslog

import (
	"unicode/utf8"
)

const hex = "0123456789abcdef"

// appendJSON appends value as a JSON string. Bytes that are not UTF-8 become
// U+FFFD; everything that could steer a terminal or end a line is escaped.
func appendJSON(dst, value []byte) []byte {
	dst = append(dst, '"')
	for len(value) > 0 {
		c := value[0]
		if c < utf8.RuneSelf {
			switch {
			case c == '"' || c == '\\':
				dst = append(dst, '\\', c)
			case c < ' ' || c == 0x7f:
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			default:
				dst = append(dst, c)
			}
			value = value[1:]
			continue
		}
		r, size := utf8.DecodeRune(value)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, `\ufffd`...)
		case r < 0xa0 || r == 0x2028 || r == 0x2029:
			dst = append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		default:
			dst = append(dst, value[:size]...)
		}
		value = value[size:]
	}
	return append(dst, '"')
}

// appendText appends value so that it can end neither its line nor its field:
// control characters, quotes, backslashes and everything beyond ASCII become
// \xHH, and blanks too where no quotes are around.
func appendText(dst, value []byte, quoted bool) []byte {
	for _, c := range value {
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == ' ' && !quoted {
			dst = append(dst, '\\', 'x', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}
