package proxy

import (
	"net/http"
	"strconv"

	"sluice/gateway/h1"
)

// writeHead writes the head of the request that an instance gets.
func (c *ownCarrier) writeHead(w *h1.Writer, m *member, traceparent string) {
	x, o := c.x, m.options
	target := c.request.Target
	if o.Strip != "" || o.Prepend != "" {
		rewritten := rewriting{o.Strip, o.Prepend}.target(x.raw, x.path)
		if x.hasQuery {
			rewritten += "?" + x.query
		}
		target = []byte(rewritten) // its own: of a hedged request, two heads may be written at a time
	}
	w.RequestLine(c.request.Method, target)
	w.String("Host: ")
	w.String(m.hostFor(x))
	w.String("\r\n")
	guarded := len(x.plan.schemes) > 0
	for i := range c.request.Fields {
		f := &c.request.Fields[i]
		if f.Hop || notForwarded(f.Name) || guarded && is(f.Name, "Authorization") || traceparent != "" && is(f.Name, "Traceparent") {
			continue
		}
		w.Copy(*f)
	}
	if traceparent != "" {
		w.Field("Traceparent", []byte(traceparent))
	}
	c.writeForwarded(w)
	if o.Strip != "" {
		w.String("X-Forwarded-Prefix: ")
		w.String(o.Strip)
		w.String("\r\n")
	}
	if c.request.Expect100 && x.hasBody {
		w.String("Expect: 100-continue\r\n")
	}
	if c.request.TETrailers {
		w.String("Connection: TE\r\nTE: trailers\r\n")
	}
	w.Framing(c.request.Body)
	w.EndHead()
}

// writeForwarded writes who has asked, and how.
func (c *ownCarrier) writeForwarded(w *h1.Writer) {
	w.String("X-Forwarded-Proto: ")
	w.String(c.x.proto())
	w.String("\r\nX-Forwarded-Port: ")
	w.String(c.x.forwardedPort(c.port))
	w.String("\r\nX-Forwarded-For: ")
	w.String(c.x.forwardedFor())
	w.String("\r\nX-Forwarded-Host: ")
	w.String(c.x.forwardedHost())
	w.String("\r\nX-Request-Id: ")
	w.String(c.x.id)
	w.String("\r\n")
}

// notForwarded reports whether a field of a client is replaced, or is about the
// connection. Programs that hand fields on as variables (RFC 3875, section 4.1.18) take
// "_" for "-", so a name with one is judged as the name with the other.
func notForwarded(name []byte) bool {
	switch len(name) {
	case 4:
		return is(name, "Host")
	case 6:
		return is(name, "Expect")
	case 9:
		return is(name, "Forwarded") || like(name, "X-Real-Ip")
	case 12:
		return like(name, "X-Request-Id")
	case 15:
		return like(name, "X-Forwarded-For")
	case 16:
		return like(name, "X-Forwarded-Host") || like(name, "X-Forwarded-Port")
	case 17:
		return like(name, "X-Forwarded-Proto")
	case 18:
		return like(name, "X-Forwarded-Prefix") || like(name, "X-Forwarded-Server")
	}
	return false
}

// like is is, with "_" for "-".
func like(name []byte, canonical string) bool {
	if len(name) != len(canonical) {
		return false
	}
	for i, b := range name {
		a := canonical[i]
		if b != a && (b|0x20 != a|0x20 || a|0x20 < 'a' || a|0x20 > 'z') && (a != '-' || b != '_') {
			return false
		}
	}
	return true
}

// is compares a field's name with one in canonical form.
func is(name []byte, canonical string) bool {
	if len(name) != len(canonical) {
		return false
	}
	for i, b := range name {
		a := canonical[i]
		if b != a && (b|0x20 != a|0x20 || a|0x20 < 'a' || a|0x20 > 'z') {
			return false
		}
	}
	return true
}

// copyFields passes fields of an answer on.
func (s *session) copyFields(fields []h1.Field) {
	for i := range fields {
		f := &fields[i]
		switch {
		case f.Hop, is(f.Name, "X-Request-Id"):
		case s.p.cfg.ServedBy && is(f.Name, "X-Served-By"), s.p.cfg.ServedDC && is(f.Name, "X-Served-Dc"):
			// Ours says who it was.
		default:
			s.writer.Copy(*f)
		}
	}
}

// writeAnswerHead writes the head of the answer that the client gets.
func (s *session) writeAnswerHead(r *h1.Response, to h1.Framing) {
	w, x := s.writer, s.x
	w.StatusLine(r.Status, r.Reason)
	s.copyFields(r.Fields)
	w.String("X-Request-Id: ")
	w.String(x.id)
	w.String("\r\n")
	m := x.answered
	if x.plan.cookie != "" && m.token != x.wants {
		cookie := stickyCookie(x)
		w.Field("Set-Cookie", []byte(cookie.String()))
	}
	if s.p.cfg.ServedBy {
		w.Field("X-Served-By", []byte(m.target.instance.ServiceID))
	}
	if s.p.cfg.ServedDC {
		w.Field("X-Served-Dc", []byte(s.p.datacenterOf(&m.target.instance)))
	}
	s.writeConnection()
	w.Framing(to)
	w.EndHead()
}

// writeConnection tells the client whether the connection stays.
func (s *session) writeConnection() {
	switch {
	case s.closing:
		s.writer.String("Connection: close\r\n")
	case s.request.Minor == 0:
		s.writer.String("Connection: keep-alive\r\n")
	}
}

func stickyCookie(x *exchange) *http.Cookie {
	return &http.Cookie{
		Name: x.plan.cookie, Value: x.answered.token, Path: "/", HttpOnly: true, Secure: x.tls, SameSite: http.SameSiteLaxMode,
	}
}

// writePage answers with a page of the gateway's own.
func (s *session) writePage(content *page) error {
	content.RequestID = s.x.id
	header, body := s.p.render(content, string(s.request.Get("Accept")))
	w := s.writer
	w.StatusLine(content.Status, []byte(http.StatusText(content.Status)))
	for name, values := range header {
		for _, value := range values {
			w.Field(name, []byte(value))
		}
	}
	w.String("X-Request-Id: " + s.x.id + "\r\n")
	s.writeConnection()
	w.String("Content-Length: " + strconv.Itoa(len(body)) + "\r\n")
	w.EndHead()
	if s.x.method != http.MethodHead {
		w.Raw(body)
		s.out = int64(len(body))
	}
	return w.Flush()
}
