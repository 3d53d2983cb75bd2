package proxy

import (
	"net/http"
	"strings"
)

// deferred reports whether an answer is a refusal on purpose: 503 with a Retry-After
// that can be read (RFC 9110, section 10.2.3). An instance that is broken does not know
// when it will be well again. get returns a field's value, in either codec.
func deferred[T string | []byte](status int, get func(name string) T) bool {
	return status == http.StatusServiceUnavailable && isMoment(string(get("Retry-After")))
}

// isMoment reports whether a value is a number of seconds or a date of HTTP.
func isMoment(value string) bool {
	if value != "" && strings.Trim(value, "0123456789") == "" {
		return true
	}
	_, err := http.ParseTime(value)
	return err == nil
}
