package h1

import "bytes"

// ReadResponse reads the head of a response to a request with the method. Interim
// responses (1xx) are returned like others. Its errors are those of ReadRequest,
// and the status of an *Error is 502.
//
// A response to HEAD, and one with 1xx, 204 or 304, has no body whatever it says. A
// Content-Length in a response to HEAD or in a 304 is about another response: it is
// a field like others there (RFC 9110, section 8.6).
func (r *Reader) ReadResponse(resp *Response, method []byte) error {
	r.response = true
	*resp = Response{Fields: resp.Fields[:0]}
	if err := r.readHead(); err != nil {
		return err
	}
	head := r.endHead()
	if err := r.statusLine(resp, head[:r.lines[0]-2]); err != nil {
		return err
	}
	fields, err := r.fields(head, resp.Fields, resp.Minor)
	resp.Fields = fields
	if err != nil {
		return err
	}
	return r.finishResponse(resp, string(method) == "HEAD")
}

// statusLine reads VERSION SP STATUS SP [REASON] (RFC 9112, section 4). Servers that
// leave out the last space with the reason are many.
func (r *Reader) statusLine(resp *Response, line []byte) error {
	version, rest, _ := bytes.Cut(line, []byte{' '})
	switch string(version) {
	case "HTTP/1.1":
		resp.Minor = 1
	case "HTTP/1.0":
		resp.Minor = 0
	default:
		return r.badVersion(version)
	}
	if len(rest) < 3 || !digit(rest[0]) || !digit(rest[1]) || !digit(rest[2]) || len(rest) > 3 && rest[3] != ' ' {
		return r.bad(502, "the status line is malformed")
	}
	resp.Status = int(rest[0]-'0')*100 + int(rest[1]-'0')*10 + int(rest[2]-'0')
	if resp.Status < 100 || resp.Status > 599 {
		return r.bad(502, "there is no such status")
	}
	if len(rest) > 4 {
		resp.Reason = rest[4:]
	}
	if !validText(resp.Reason) {
		return r.bad(502, "the reason has a control byte")
	}
	return nil
}

// finishResponse fills in what the fields say together.
func (r *Reader) finishResponse(resp *Response, toHead bool) error {
	s := &r.seen
	interim := resp.Status < 200
	if interim && (s.lengths > 0 || s.codings > 0) {
		return r.bad(502, "an interim response has a body")
	}
	body, err := r.framing(resp.Minor)
	if err != nil {
		return err
	}
	switch {
	case toHead || resp.Status == 304:
		r.keepLength(resp.Fields)
	case interim || resp.Status == 204:
	default:
		resp.Body = body
	}
	resp.KeepAlive = s.keepAlive(resp.Minor) && resp.Body.Kind != UntilClose
	if resp.Status != 101 {
		return nil
	}
	if resp.Minor == 0 {
		return r.bad(502, "HTTP/1.0 has no upgrade")
	}
	if resp.Upgrade, err = r.upgrade(); err == nil && resp.Upgrade == nil {
		err = r.bad(502, "a 101 does not say to what it upgrades")
	}
	return err
}

// keepLength makes Content-Length a field like others.
func (r *Reader) keepLength(fields []Field) {
	if r.seen.lengths > 0 {
		for i := range fields {
			if same(fields[i].Name, "content-length") {
				fields[i].Hop = false
			}
		}
	}
}
