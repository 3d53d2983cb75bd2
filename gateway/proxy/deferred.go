package proxy

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"
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

// deferralText says of an instance that has deferred how much longer that counts.
func deferralText(left time.Duration) string {
	if left <= 0 {
		return "it has deferred (503 with Retry-After), and not succeeded since"
	}
	return fmt.Sprintf("it defers (503 with Retry-After), which counts for %.1f s", math.Ceil(10*left.Seconds())/10)
}
