package h1

// seen is what the fields of one head say about the message and the connection.
type seen struct {
	hosts, lengths, codings, upgrades int
	host, length, coding, upgradeTo   []byte

	close, keep, upgrade         bool // options of Connection
	expect100, oddExpect         bool
	teTrailers                   bool
	options                      int
	connections, firstConnection int
}

// fields reads the field lines of a head (RFC 9112, section 5) and appends them to
// list.
func (r *Reader) fields(head []byte, list []Field, minor int) ([]Field, error) {
	r.seen = seen{}
	for i := 1; i < len(r.lines); i++ {
		n := len(list)
		list = append(list, Field{})
		f := &list[n]
		if err := r.fieldLine(f, head[r.lines[i-1]:r.lines[i]-2]); err != nil {
			return list[:n], err
		}
		f.Hop = r.seen.note(f, n)
	}
	if r.seen.connections == 0 {
		return list, nil
	}
	return list, r.connection(list)
}

// fieldLine reads NAME ":" OWS VALUE OWS. A line that continues the one before
// (obs-fold) begins with whitespace and so has no name.
func (r *Reader) fieldLine(f *Field, line []byte) error {
	n := 0
	for n < len(line) && is(line[n], token) {
		n++
	}
	if n == 0 || n == len(line) || line[n] != ':' {
		return r.bad(400, "a field name is malformed")
	}
	f.Name, f.Value = line[:n:n], trim(line[n+1:])
	if !validText(f.Value) {
		return r.bad(400, "a field value has a control byte")
	}
	return nil
}

// note remembers what a field says, and reports whether it is for one connection
// alone.
func (s *seen) note(f *Field, index int) (hop bool) {
	switch len(f.Name) {
	case 2:
		if hop = same(f.Name, "te"); hop {
			s.te(f.Value)
		}
	case 4:
		if same(f.Name, "host") {
			s.hosts++
			s.host = f.Value
		}
	case 6:
		if same(f.Name, "expect") {
			hundred := equalFold(f.Value, "100-continue")
			s.expect100 = s.expect100 || hundred
			s.oddExpect = s.oddExpect || !hundred
		}
	case 7:
		if hop = same(f.Name, "upgrade"); hop {
			s.upgrades++
			s.upgradeTo = f.Value
		}
	case 10:
		if same(f.Name, "connection") {
			if s.connections == 0 {
				s.firstConnection = index
			}
			s.connections++
			return true
		}
		return same(f.Name, "keep-alive")
	case 14:
		if hop = same(f.Name, "content-length"); hop {
			s.lengths++
			s.length = f.Value
			return true
		}
		return same(f.Name, "http2-settings")
	case 16:
		return same(f.Name, "proxy-connection")
	case 17:
		if hop = same(f.Name, "transfer-encoding"); hop {
			s.codings++
			s.coding = f.Value
		}
	case 18:
		return same(f.Name, "proxy-authenticate")
	case 19:
		return same(f.Name, "proxy-authorization")
	}
	return hop
}

// te looks for "trailers" among the elements of TE (RFC 9110, section 10.1.4).
func (s *seen) te(value []byte) {
	for more := true; more; {
		var e []byte
		e, value, more = element(value)
		s.teTrailers = s.teTrailers || equalFold(e, "trailers")
	}
}

// connection reads the options of the Connection fields and marks the fields that
// they name (RFC 9110, section 7.6.1). An option that names a field which is for
// the recipient of the content is refused: the sender must not name it, and a
// gateway that obeyed would let clients take away what other fields rely on.
func (r *Reader) connection(list []Field) error {
	s := &r.seen
	for i := s.firstConnection; i < len(list); i++ {
		if !same(list[i].Name, "connection") {
			continue
		}
		value := list[i].Value
		for more := true; more; {
			var option []byte
			option, value, more = element(value)
			if len(option) == 0 {
				continue
			}
			if s.options++; s.options > maxOptions || !all(option, token) {
				return r.bad(400, "the Connection field is malformed")
			}
			if endToEnd(option) {
				return r.bad(400, "Connection names a field that is not for it")
			}
			s.option(option, list)
		}
	}
	return nil
}

func (s *seen) option(option []byte, list []Field) {
	switch {
	case same(option, "close"):
		s.close = true
		return
	case same(option, "keep-alive"):
		s.keep = true
		return
	case same(option, "upgrade"):
		s.upgrade = true
		return
	}
	for i := range list {
		if equalFold(list[i].Name, option) {
			list[i].Hop = true
		}
	}
}

// endToEnd reports whether a Connection option is the name of a field that no
// sender may make hop-by-hop.
func endToEnd(name []byte) bool {
	if len(name) >= len("x-forwarded-") && same(name[:len("x-forwarded-")], "x-forwarded-") {
		return true
	}
	switch len(name) {
	case 3:
		return same(name, "via")
	case 4:
		return same(name, "host") || same(name, "date") || same(name, "etag") || same(name, "vary")
	case 5:
		return same(name, "range")
	case 6:
		return same(name, "cookie") || same(name, "expect") || same(name, "origin")
	case 8:
		return same(name, "location")
	case 9:
		return same(name, "forwarded") || same(name, "x-real-ip")
	case 10:
		return same(name, "set-cookie")
	case 12:
		return same(name, "content-type")
	case 13:
		return same(name, "authorization") || same(name, "cache-control") || same(name, "content-range")
	case 14:
		return same(name, "content-length")
	case 16:
		return same(name, "content-encoding") || same(name, "www-authenticate")
	}
	return false
}
