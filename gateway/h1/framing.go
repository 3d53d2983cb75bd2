package h1

import "math"

// framing decides where the body ends (RFC 9112, section 6.3), and refuses whatever
// two readers could decide differently.
func (r *Reader) framing(minor int) (Framing, error) {
	s := &r.seen
	switch {
	case s.codings > 0 && s.lengths > 0:
		return Framing{}, r.bad(400, "there are both Content-Length and Transfer-Encoding")
	case s.codings > 0 && minor == 0:
		return Framing{}, r.bad(400, "HTTP/1.0 has no Transfer-Encoding")
	case s.codings > 1:
		return Framing{}, r.bad(400, "there is more than one Transfer-Encoding field")
	case s.codings == 1:
		if !equalFold(s.coding, "chunked") {
			return Framing{}, r.badCoding(s.coding)
		}
		return Framing{Kind: Chunked}, nil
	case s.lengths > 1:
		return Framing{}, r.bad(400, "there is more than one Content-Length field")
	case s.lengths == 1:
		n, ok := length(s.length)
		if !ok {
			return Framing{}, r.bad(400, "the Content-Length is malformed")
		}
		return Framing{Kind: Sized, Length: n}, nil
	case r.response:
		return Framing{Kind: UntilClose}, nil
	}
	return Framing{}, nil
}

// length reads 1*DIGIT that fits in 63 bits. Leading zeros are harmless because
// Writer.Framing writes the number anew.
func length(b []byte) (n int64, ok bool) {
	if len(b) == 0 {
		return 0, false
	}
	for _, c := range b {
		if !digit(c) {
			return 0, false
		}
		d := int64(c - '0')
		if n > (math.MaxInt64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// badCoding tells codings that are not known here from what is no list of codings
// or has "chunked" where it must not be (RFC 9112, section 6.1).
func (r *Reader) badCoding(list []byte) error {
	chunked := false
	for more := true; more; {
		var coding []byte
		coding, list, more = element(list)
		if chunked || len(coding) == 0 || !all(coding, token) {
			return r.bad(400, "the Transfer-Encoding is malformed")
		}
		chunked = equalFold(coding, "chunked")
	}
	return r.bad(501, "the transfer coding is not chunked")
}

// keepAlive is whether the connection goes on (RFC 9112, section 9.3).
func (s *seen) keepAlive(minor int) bool {
	return !s.close && (minor > 0 || s.keep)
}

// upgrade returns the value of Upgrade if Connection has the option (RFC 9110,
// section 7.8).
func (r *Reader) upgrade() ([]byte, error) {
	s := &r.seen
	if !s.upgrade || s.upgrades == 0 {
		return nil, nil
	}
	if s.upgrades > 1 || len(s.upgradeTo) == 0 {
		return nil, r.bad(400, "there is not one Upgrade field with a value")
	}
	return s.upgradeTo, nil
}
