package answers

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// text takes a text. What it returns is valid until the next token is read.
func (s *scanner) text() ([]byte, error) {
	content, plain, err := s.raw()
	if err != nil || plain {
		return content, err
	}
	s.unescaped = unescape(s.unescaped[:0], content)
	return s.unescaped, nil
}

// shared takes a text, or a null, which is an empty one. It returns known if that is
// the same.
func (s *scanner) shared(known string) (string, error) {
	if null, err := s.null(); null || err != nil {
		return "", err
	}
	text, err := s.text()
	if err != nil {
		return "", err
	}
	if string(text) == known {
		return known, nil
	}
	return string(text), nil
}

// raw takes a text and returns what is between its quotes, and whether the text is
// that as it stands there.
func (s *scanner) raw() (content []byte, plain bool, err error) {
	if err := s.take('"'); err != nil {
		return nil, false, err
	}
	s.token, plain = s.pos, true
	for {
		s.pos += plainEnd(s.buf[s.pos:s.end])
		if s.pos == s.end {
			if err := s.fill(); err != nil {
				return nil, false, err
			}
			continue
		}
		switch c := s.buf[s.pos]; {
		case c == '"':
			content = s.buf[s.token:s.pos]
			s.token = -1
			s.pos++
			return content, plain, nil
		case c == '\\':
			plain = false
			if err := s.escape(); err != nil {
				return nil, false, err
			}
		case c < ' ':
			return nil, false, s.fault("%q in a text", c)
		default:
			plain = false
			s.pos++
		}
	}
}

// escape takes a backslash and what belongs to it.
func (s *scanner) escape() error {
	s.pos++
	c, err := s.here()
	if err != nil {
		return err
	}
	s.pos++
	if c != 'u' {
		if strings.IndexByte(`"\/bfnrt`, c) < 0 {
			return s.fault("%q after a backslash", c)
		}
		return nil
	}
	for range 4 {
		if c, err = s.here(); err != nil {
			return err
		}
		if !isHex(c) {
			return s.fault("%q in an escape", c)
		}
		s.pos++
	}
	return nil
}

// here returns the next byte and leaves it there.
func (s *scanner) here() (byte, error) {
	if s.pos == s.end {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	return s.buf[s.pos], nil
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// unescape appends a text whose escapes are well-formed. What is no UTF-8 becomes
// U+FFFD, as with encoding/json.
func unescape(to, content []byte) []byte {
	for len(content) > 0 {
		c := content[0]
		switch {
		case c == '\\' && content[1] == 'u':
			r := codeUnit(content)
			content = content[6:]
			if utf16.IsSurrogate(r) {
				r = utf16.DecodeRune(r, codeUnit(content))
				if r != utf8.RuneError {
					content = content[6:]
				}
			}
			to = utf8.AppendRune(to, r)
		case c == '\\':
			to = append(to, unescaped(content[1]))
			content = content[2:]
		case c < utf8.RuneSelf:
			to = append(to, c)
			content = content[1:]
		default:
			r, size := utf8.DecodeRune(content)
			to = utf8.AppendRune(to, r)
			content = content[size:]
		}
	}
	return to
}

// codeUnit returns the one that content begins with, or -1.
func codeUnit(content []byte) rune {
	if len(content) < 6 || content[0] != '\\' || content[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(content[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

func unescaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// number takes a number, which is valid until the next token is read.
func (s *scanner) number() ([]byte, error) {
	if _, err := s.peek(); err != nil {
		return nil, err
	}
	s.token = s.pos
	if err := s.numberEnd(); err != nil {
		return nil, err
	}
	content := s.buf[s.token:s.pos]
	s.token = -1
	return content, nil
}

func (s *scanner) numberEnd() error {
	if _, err := s.optional("-"); err != nil {
		return err
	}
	zero, err := s.optional("0")
	if err == nil && !zero {
		err = s.digits()
	}
	if err != nil {
		return err
	}
	for _, part := range []string{".", "eE"} {
		there, err := s.optional(part)
		if there && part != "." {
			_, err = s.optional("+-")
		}
		if there && err == nil {
			err = s.digits()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// optional takes one of some bytes, if that is what comes.
func (s *scanner) optional(of string) (bool, error) {
	c, err := s.here()
	if err != nil || strings.IndexByte(of, c) < 0 {
		return false, err
	}
	s.pos++
	return true, nil
}

// digits takes at least one.
func (s *scanner) digits() error {
	for n := 0; ; n++ {
		c, err := s.here()
		switch {
		case err != nil:
			return err
		case c >= '0' && c <= '9':
			s.pos++
		case n == 0:
			return s.fault("%q in a number", c)
		default:
			return nil
		}
	}
}

// integer takes a whole number, or a null, which is 0.
func (s *scanner) integer() (int, error) {
	if null, err := s.null(); null || err != nil {
		return 0, err
	}
	digits, err := s.number()
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(digits))
	if err != nil {
		return 0, s.fault("%q where a whole number has to be", digits)
	}
	return n, nil
}
