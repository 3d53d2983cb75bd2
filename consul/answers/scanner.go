package answers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"runtime"
)

// maxDepth is how deep arrays and objects may lie in each other, as encoding/json
// has it.
const maxDepth = 10_000

// BufferSize is how large a buffer should be for a reader: between two fills the
// goroutine lets others run.
const BufferSize = 32 << 10

// errSyntax means that an answer is no JSON.
var errSyntax = errors.New("malformed answer of Consul")

// scanner reads JSON from a stream, token by token.
type scanner struct {
	from io.Reader
	buf  []byte
	// pos is the next byte to look at, end is behind the last that is there.
	pos, end int
	// token is where the text in hand begins, which a fill must keep; -1 without one.
	token int
	depth int
	// unescaped holds the text in hand, if it is not in buf as it is.
	unescaped []byte
}

func newScanner(from io.Reader, buffer []byte) *scanner {
	return &scanner{from: from, buf: buffer, token: -1}
}

// fill reads more. It returns io.ErrUnexpectedEOF if there is no more.
func (s *scanner) fill() error {
	// A request that came meanwhile does not wait for the rest of a long answer.
	runtime.Gosched()
	first := s.pos
	if s.token >= 0 {
		first, s.token = s.token, 0
	}
	s.end = copy(s.buf, s.buf[first:s.end])
	s.pos -= first
	if s.end == len(s.buf) {
		s.buf = append(s.buf, make([]byte, max(len(s.buf), 512))...)
	}
	for range 100 {
		n, err := s.from.Read(s.buf[s.end:])
		s.end += n
		switch {
		case n > 0:
			return nil
		case errors.Is(err, io.EOF):
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

func (s *scanner) fault(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errSyntax, fmt.Sprintf(format, args...))
}

// peek returns the first byte of the next token and leaves it there.
func (s *scanner) peek() (byte, error) {
	for {
		for ; s.pos < s.end; s.pos++ {
			switch c := s.buf[s.pos]; c {
			case ' ', '\t', '\n', '\r':
			default:
				return c, nil
			}
		}
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
}

// take takes a byte that must come next.
func (s *scanner) take(want byte) error {
	c, err := s.peek()
	if err != nil {
		return err
	}
	if c != want {
		return s.fault("%q where %q has to be", c, want)
	}
	s.pos++
	return nil
}

// finish makes sure that nothing follows.
func (s *scanner) finish() error {
	switch c, err := s.peek(); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil
	case err != nil:
		return err
	default:
		return s.fault("%q after its end", c)
	}
}

// null takes a null, if that is what comes.
func (s *scanner) null() (bool, error) {
	c, err := s.peek()
	if err != nil || c != 'n' {
		return false, err
	}
	return true, s.literal("null")
}

func (s *scanner) literal(want string) error {
	for i := range len(want) {
		if s.pos == s.end {
			if err := s.fill(); err != nil {
				return err
			}
		}
		if s.buf[s.pos] != want[i] {
			return s.fault("%q in %s", s.buf[s.pos], want)
		}
		s.pos++
	}
	return nil
}

// boolean takes true, false or null, which is false.
func (s *scanner) boolean() (bool, error) {
	c, err := s.peek()
	if err != nil {
		return false, err
	}
	switch c {
	case 't':
		return true, s.literal("true")
	case 'f':
		return false, s.literal("false")
	case 'n':
		return false, s.literal("null")
	}
	return false, s.fault("%q where a boolean has to be", c)
}

// present refuses a null where something has to be.
func (s *scanner) present(what string) error {
	c, err := s.peek()
	if err == nil && c == 'n' {
		return s.fault("a null in place of %s", what)
	}
	return err
}

// array calls each for every element, which it must take. A null has no elements, and
// is none.
func (s *scanner) array(each func() error) error {
	return s.collection('[', ']', func(c byte) error {
		if c == 'n' {
			return s.fault("a null in a list")
		}
		return each()
	})
}

// object calls each for every member with its name, which is valid until the next
// token is read; each must take the value. A null has no members.
func (s *scanner) object(each func(name []byte) error) error {
	return s.collection('{', '}', func(byte) error {
		name, err := s.text()
		if err != nil {
			return err
		}
		// The name may lie in the buffer, which reading the colon moves.
		if s.pos == s.end || s.buf[s.pos] != ':' {
			name = append([]byte(nil), name...)
			if err := s.take(':'); err != nil {
				return err
			}
		} else {
			s.pos++
		}
		return each(name)
	})
}

// collection calls each for every element or member, with the byte that it begins with.
func (s *scanner) collection(first, last byte, each func(c byte) error) error {
	if null, err := s.null(); null || err != nil {
		return err
	}
	if err := s.take(first); err != nil {
		return err
	}
	if s.depth++; s.depth > maxDepth {
		return s.fault("deeper than %d", maxDepth)
	}
	c, err := s.peek()
	if err != nil {
		return err
	}
	for c != last {
		if err := each(c); err != nil {
			return err
		}
		if c, err = s.peek(); err != nil {
			return err
		}
		if c == last {
			break
		}
		if err := s.take(','); err != nil {
			return err
		}
		if c, err = s.peek(); err != nil {
			return err
		}
		if c == last {
			return s.fault("%q after a comma", c)
		}
	}
	s.pos++
	s.depth--
	return nil
}

// skip takes one value, whatever it is.
func (s *scanner) skip() error {
	c, err := s.peek()
	if err != nil {
		return err
	}
	switch c {
	case '{':
		return s.object(func([]byte) error { return s.skip() })
	case '[':
		return s.collection('[', ']', func(byte) error { return s.skip() })
	case '"':
		_, _, err := s.raw()
		return err
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	}
	_, err = s.number()
	return err
}

// plainEnd returns where in b the first byte is that is not a plain one of a text: a
// quote, a backslash, a control character, or beyond ASCII.
func plainEnd(b []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; len(b)-i >= 8; i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^('"'*ones), x^('\\'*ones)
		// A byte with its top bit set here is one of them; of more than one the lowest is right.
		odd := (x | (x - ' '*ones) | (quote - ones) | (slash - ones)) & tops
		// The subtractions also mark what borrows from a marked byte below, never a byte above none.
		if odd != 0 {
			return i + bits.TrailingZeros64(odd)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x80 {
			break
		}
	}
	return i
}
