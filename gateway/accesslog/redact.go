package accesslog

import (
	"bytes"
	"strings"
)

// redacted stands in the log for a value that is never written.
const redacted = "***"

// DefaultSecrets returns the names of query parameters whose values are secrets
// wherever they occur.
func DefaultSecrets() []string {
	return []string{
		"access_token", "api_key", "apikey", "auth", "authorization", "client_secret", "code", "credential", "id_token",
		"jwt", "key", "passwd", "password", "pwd", "refresh_token", "secret", "session", "sessionid", "sig", "signature",
		"token", "x-amz-credential", "x-amz-security-token", "x-amz-signature", "x-goog-signature",
	}
}

// isSecretHeader reports whether a header's value is never written, whatever the
// format says.
func isSecretHeader(name string) bool {
	switch name = strings.ToLower(name); name {
	case "authorization", "proxy-authorization", "cookie", "set-cookie", "www-authenticate", "authentication-info":
		return true
	}
	for _, part := range []string{"token", "secret", "password", "api-key", "apikey", "session", "signature"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// redactor replaces the values of some query parameters.
type redactor map[string]bool

func newRedactor(names []string) redactor {
	r := redactor{}
	for _, name := range names {
		r[strings.ToLower(name)] = true
	}
	return r
}

// append appends a request target, or a URL, with the secret values of its query
// and of parameters in its path replaced. The names are compared as the application will read them: decoded,
// in any case.
func (r redactor) append(dst, target []byte) []byte {
	path, query, found := bytes.Cut(target, []byte("?"))
	dst = r.appendPath(dst, path)
	if !found {
		return dst
	}
	return r.appendQuery(append(dst, '?'), query)
}

// appendPath is append for what is before the query. Parameters are also those
// behind a semicolon (/a;token=x), and those of a query that was escaped once too
// often; their values go as far as the segment.
func (r redactor) appendPath(dst, path []byte) []byte {
	dst, begin := appendWithoutUser(dst, path), len(dst)
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
		if !found || !r.secret(rest[:name]) {
			continue
		}
		dst = append(append(dst, rest[:name+equals]...), redacted...)
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

// appendQuery is append for a query alone. Some applications separate parameters
// by semicolons and others take a semicolon for a part of the value, so a name is
// looked for behind both, and a secret goes as far as the next &.
func (r redactor) appendQuery(dst, query []byte) []byte {
	for len(query) > 0 {
		end := bytes.IndexAny(query, "&;#")
		if end < 0 {
			end = len(query)
		}
		name, _, hasValue := bytes.Cut(query[:end], []byte("="))
		if hasValue && r.secret(name) {
			dst = append(append(append(dst, name...), '='), redacted...)
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
func (r redactor) secret(name []byte) bool {
	plain := strings.ToLower(string(unescape(name)))
	for part := range strings.FieldsFuncSeq(plain, func(c rune) bool { return strings.ContainsRune("[]. ", c) }) {
		if r[part] {
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
func appendWithoutUser(dst, url []byte) []byte {
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
		dst = append(append(dst, url[:begin]...), redacted...)
		return append(dst, url[begin+at:]...)
	}
	return append(dst, url...)
}
