package accesslog

import "strings"

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
