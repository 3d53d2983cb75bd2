package h1

import "bytes"

// ReadRequest reads the head of a request into req. It blocks until the head is
// complete. It returns io.EOF if the peer ended before the first byte (beside one
// empty line), io.ErrUnexpectedEOF if it ended later, an *Error if the head is
// refused, and errors of the source as they are.
func (r *Reader) ReadRequest(req *Request) error {
	r.response = false
	*req = Request{Fields: req.Fields[:0]}
	if err := r.readHead(); err != nil {
		return err
	}
	head := r.endHead()
	if err := r.requestLine(req, head[r.skipped:r.lines[0]-2]); err != nil {
		return err
	}
	fields, err := r.fields(head, req.Fields, req.Minor)
	req.Fields = fields
	if err != nil {
		return err
	}
	if err := r.hostOf(req); err != nil {
		return err
	}
	return r.finishRequest(req)
}

// requestLine reads METHOD SP TARGET SP VERSION (RFC 9112, section 3).
func (r *Reader) requestLine(req *Request, line []byte) error {
	method, rest, _ := bytes.Cut(line, []byte{' '})
	i := bytes.LastIndexByte(rest, ' ')
	if len(method) == 0 || !all(method, token) || i < 0 {
		return r.bad(400, badRequestLine)
	}
	if len(method) > maxMethod {
		return r.bad(501, "the method is too long")
	}
	name, version := rest[:i], rest[i+1:]
	switch string(version) {
	case "HTTP/1.1":
		req.Minor = 1
	case "HTTP/1.0":
		req.Minor = 0
	default:
		return r.badVersion(version)
	}
	req.Method, req.Target = method, name
	return r.target(req)
}

// badVersion tells a version that is not spoken here from what is no version
// (RFC 9112, section 2.3).
func (r *Reader) badVersion(v []byte) error {
	if len(v) == 8 && string(v[:5]) == "HTTP/" && digit(v[5]) && v[6] == '.' && digit(v[7]) {
		return r.bad(505, "the version is neither HTTP/1.0 nor HTTP/1.1")
	}
	return r.bad(400, badVersion)
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// target judges the request target (RFC 9112, section 3.2) and splits it.
func (r *Reader) target(req *Request) error {
	t := req.Target
	switch {
	case len(t) == 0 || !all(t, target):
		return r.bad(400, "the request target is malformed")
	case string(req.Method) == "CONNECT":
		return r.bad(400, "CONNECT is for proxies that clients choose")
	case len(t) == 1 && t[0] == '*':
		if string(req.Method) != "OPTIONS" {
			return r.bad(400, "the target * is for OPTIONS alone")
		}
		req.Path = t
		return nil
	case t[0] != '/':
		return r.bad(400, "the request target is not in origin-form")
	}
	req.Path, req.Query, req.HasQuery = bytes.Cut(t, []byte{'?'})
	for p := req.Path; ; {
		i := bytes.IndexByte(p, '%')
		if i < 0 {
			return nil
		}
		p = p[i+1:]
		if len(p) < 2 || !is(p[0], hex) || !is(p[1], hex) || p[0] == '0' && p[1] == '0' {
			return r.bad(400, "the path has a bad escape")
		}
	}
}

// hostOf demands exactly one good Host field (RFC 9112, section 3.2).
func (r *Reader) hostOf(req *Request) error {
	s := &r.seen
	switch {
	case s.hosts > 1:
		return r.bad(400, "there is more than one Host field")
	case s.hosts == 0 && req.Minor > 0:
		return r.bad(400, "there is no Host field")
	case len(s.host) == 0 && req.Minor == 0:
		return nil
	case !validHost(s.host):
		return r.bad(400, "the Host field is malformed")
	}
	req.Host = s.host
	return nil
}

// validHost reports whether h is a name, an IPv4 address or an IPv6 address in
// brackets, with a port or without. Escapes and the other odd bytes that RFC 3986,
// section 3.2.2, allows in a registered name are in no name that routes.
func validHost(h []byte) bool {
	if len(h) == 0 || len(h) > maxHost {
		return false
	}
	var port []byte
	ported := false
	if h[0] == '[' {
		end := bytes.IndexByte(h, ']')
		if end < 0 || !validIPv6(h[1:end]) {
			return false
		}
		if port = h[end+1:]; len(port) == 0 {
			return true
		}
		if port[0] != ':' {
			return false
		}
		port, ported = port[1:], true
	} else {
		h, port, ported = bytes.Cut(h, []byte{':'})
		if len(h) == 0 || !all(h, host) {
			return false
		}
	}
	return !ported || validPort(port)
}

// validIPv6 looks at the bytes alone: whether it is an address that exists is for
// whoever looks it up in the routes.
func validIPv6(b []byte) bool {
	colons := 0
	for _, c := range b {
		if c == ':' {
			colons++
		} else if !is(c, hex) && c != '.' {
			return false
		}
	}
	return 2 <= colons && colons <= 7 && len(b) <= 45
}

func validPort(b []byte) bool {
	if len(b) == 0 || len(b) > 5 {
		return false
	}
	n := 0
	for _, c := range b {
		if !digit(c) {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}

// finishRequest fills in what the fields say together.
func (r *Reader) finishRequest(req *Request) error {
	s := &r.seen
	body, err := r.framing(req.Minor)
	if err != nil {
		return err
	}
	if body.Length > r.limits.Body && r.limits.Body > 0 {
		return r.bad(413, tooMuch)
	}
	req.Body = body
	req.KeepAlive = s.keepAlive(req.Minor)
	if req.Minor == 0 {
		return nil // it knows no expectations, upgrades and trailers
	}
	if s.oddExpect {
		return r.bad(417, "the expectation is not 100-continue")
	}
	req.Expect100, req.TETrailers = s.expect100, s.teTrailers
	req.Upgrade, err = r.upgrade()
	return err
}
