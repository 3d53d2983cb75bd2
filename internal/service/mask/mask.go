// Package mask leaves secrets out of the paths and URLs of requests wherever they are
// shown: in logs, in traces and on pages.
package mask

import (
	"bytes"
	"strings"
)

const hex = "0123456789abcdef"

// Names returns the usual names of parameters whose values are secrets, those of
// OpenTelemetry's conventions for URLs among them.
func Names() []string {
	return []string{
		"access_token", "api_key", "apikey", "auth", "authorization", "awsaccesskeyid", "client_secret", "code", "credential", "id_token",
		"jwt", "key", "passwd", "password", "pwd", "refresh_token", "secret", "session", "sessionid", "sig", "signature",
		"token", "x-amz-credential", "x-amz-security-token", "x-amz-signature", "x-goog-signature",
	}
}

// Mask replaces the values of parameters that are secret. The zero Mask leaves out
// nothing but user and password of a URL. It is safe for concurrent use.
type Mask struct {
	names map[string]bool // in lower case
	// attribute says that what is left out is named as in an attribute of a span.
	attribute bool
}

// Attribute returns the same Mask with the words of OpenTelemetry's conventions for
// url.full: REDACTED for a value, and REDACTED:REDACTED for user and password.
func (m Mask) Attribute() Mask {
	m.attribute = true
	return m
}

// value stands for the value of a parameter, and user for user and password.
func (m Mask) value() string {
	if m.attribute {
		return "REDACTED"
	}
	return "***"
}

func (m Mask) user() string {
	if m.attribute {
		return "REDACTED:REDACTED"
	}
	return "***"
}

// New returns the Mask for parameters of these names, in any case; nil is Names.
func New(names []string) Mask {
	if names == nil {
		names = Names()
	}
	m := Mask{names: map[string]bool{}}
	for _, name := range names {
		m.names[strings.ToLower(name)] = true
	}
	return m
}

// Target returns a path, a path with a query, or a URL, decoded or not, with ***
// for the values of parameters that are secret: those of the query, and those of
// segments of the path, as in /a;token=x. A text without any is returned as it is.
// Of a path that is decoded, what followed an escaped slash in a value is shown.
func (m Mask) Target(target string) string {
	if !strings.ContainsAny(target, ";?&%") && !strings.Contains(target, "://") {
		return target
	}
	return string(m.Append(nil, []byte(target)))
}

// Append appends a request target, or a URL, as Target returns it. The names are
// compared as the application will read them: decoded, in any case.
func (m Mask) Append(dst, target []byte) []byte {
	path, query, found := bytes.Cut(target, []byte("?"))
	dst = m.appendPath(dst, path)
	if !found {
		return dst
	}
	return m.AppendQuery(append(dst, '?'), query)
}

// appendPath is Append for what is before the query. Parameters are also those
// behind a semicolon (/a;token=x), and those of a query that was escaped once too
// often; their values go as far as the segment.
func (m Mask) appendPath(dst, path []byte) []byte {
	dst, begin := m.appendWithoutUser(dst, path), len(dst)
	if bytes.IndexByte(dst[begin:], ';') < 0 && bytes.IndexByte(dst[begin:], '%') < 0 && bytes.IndexByte(dst[begin:], '&') < 0 {
		return dst
	}
	rest := bytes.Clone(dst[begin:])
	dst = dst[:begin]
	for len(rest) > 0 {
		n, separates := delimiter(rest, ";?&")
		dst, rest = append(dst, rest[:n]...), rest[n:]
		if !separates {
			continue
		}
		name := until(rest, ";?&/=")
		equals, found := delimiter(rest[name:], "=")
		if !found || !m.secret(rest[:name]) {
			continue
		}
		dst = append(append(dst, rest[:name+equals]...), m.value()...)
		rest = rest[name+equals:]
		rest = rest[until(rest, "&/"):]
	}
	return dst
}

// delimiter returns how many bytes the first character of text has, and whether it
// is one of set, as it is or escaped.
func delimiter(text []byte, set string) (size int, is bool) {
	switch {
	case len(text) == 0:
		return 0, false
	case text[0] == '%' && len(text) > 2 && digit(text[1]) >= 0 && digit(text[2]) >= 0:
		c := byte(digit(text[1])<<4 | digit(text[2]))
		return 3, c != '/' && strings.IndexByte(set, c) >= 0
	}
	return 1, strings.IndexByte(set, text[0]) >= 0
}

// until returns how many bytes there are before the next of set.
func until(text []byte, set string) int {
	for at := 0; at < len(text); {
		n, is := delimiter(text[at:], set)
		if is {
			return at
		}
		at += n
	}
	return len(text)
}

// AppendQuery is Append for a query alone. Some applications separate parameters
// by semicolons and others take a semicolon for a part of the value, so a name is
// looked for behind both, and a secret goes as far as the next &.
func (m Mask) AppendQuery(dst, query []byte) []byte {
	for len(query) > 0 {
		end := bytes.IndexAny(query, "&;#")
		if end < 0 {
			end = len(query)
		}
		name, _, hasValue := bytes.Cut(query[:end], []byte("="))
		if hasValue && m.secret(name) {
			dst = append(append(append(dst, name...), '='), m.value()...)
			if end = bytes.IndexByte(query, '&'); end < 0 {
				return dst
			}
		} else {
			dst = append(dst, query[:end]...)
		}
		if query = query[end:]; len(query) > 0 {
			dst, query = append(dst, query[0]), query[1:]
		}
	}
	return dst
}

// secret compares a parameter's name, also that of an element or a member of it:
// "token", "token[]", "user[token]", "user.token".
func (m Mask) secret(name []byte) bool {
	plain := strings.ToLower(string(unescape(name)))
	for part := range strings.FieldsFuncSeq(plain, func(c rune) bool { return strings.ContainsRune("[]. ", c) }) {
		if m.names[part] {
			return true
		}
	}
	return false
}

// unescape decodes what it can of a name; the rest stays.
func unescape(name []byte) []byte {
	out := make([]byte, 0, len(name))
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(name) && digit(name[i+1]) >= 0 && digit(name[i+2]) >= 0:
			c = byte(digit(name[i+1])<<4 | digit(name[i+2]))
			i += 2
		}
		out = append(out, c)
	}
	return out
}

func digit(c byte) int {
	if 'A' <= c && c <= 'F' {
		c += 'a' - 'A'
	}
	return strings.IndexByte(hex, c)
}

// appendWithoutUser leaves user and password out of a URL.
func (m Mask) appendWithoutUser(dst, url []byte) []byte {
	begin := bytes.Index(url, []byte("://"))
	if begin < 0 {
		return append(dst, url...)
	}
	begin += len("://")
	end := len(url)
	if slash := bytes.IndexByte(url[begin:], '/'); slash >= 0 {
		end = begin + slash
	}
	if at := bytes.LastIndexByte(url[begin:end], '@'); at >= 0 {
		dst = append(append(dst, url[:begin]...), m.user()...)
		return append(dst, url[begin+at:]...)
	}
	return append(dst, url...)
}
