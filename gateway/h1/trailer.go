package h1

// trailerFields keeps the fields of a trailer section that may be in one. Those that
// say where a message ends or where it goes are refused; what is left of those that
// RFC 9110, section 6.5.1, forbids, and what only the gateway may say, is dropped.
func (r *Reader) trailerFields(data []byte) error {
	d := &r.decoder
	start := 0
	for _, end := range r.lines {
		var f Field
		if err := r.fieldLine(&f, data[start:end-2]); err != nil {
			return err
		}
		start = end
		if same(f.Name, "content-length") || same(f.Name, "transfer-encoding") || same(f.Name, "host") {
			return r.bad(400, "a trailer field is about framing or routing")
		}
		if !untrailed(f.Name) {
			d.trailer = append(d.trailer, f)
		}
	}
	return nil
}

// untrailed reports whether a field may not come after the body: what it says is
// acted on before the body, or it is for one connection.
func untrailed(name []byte) bool {
	if endToEnd(name) && !same(name, "etag") {
		return true
	}
	if len(name) >= 3 && same(name[:3], "if-") {
		return true
	}
	switch len(name) {
	case 2:
		return same(name, "te")
	case 3:
		return same(name, "age")
	case 6:
		return same(name, "pragma") || same(name, "accept")
	case 7:
		return same(name, "expires") || same(name, "trailer") || same(name, "upgrade") || same(name, "warning")
	case 8:
		return same(name, "if-range")
	case 10:
		return same(name, "connection") || same(name, "keep-alive")
	case 11:
		return same(name, "retry-after")
	case 12:
		return same(name, "max-forwards")
	case 13:
		return same(name, "accept-ranges")
	case 14:
		return same(name, "http2-settings")
	case 16:
		return same(name, "proxy-connection")
	case 18:
		return same(name, "proxy-authenticate")
	case 19:
		return same(name, "proxy-authorization")
	}
	return false
}
