package proxy

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What is different for gRPC (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md): a call
// may be silent for hours, and an error is a trailer of an answer with status 200.

// isGRPC reports whether a request is a call: its type is application/grpc, or
// that with a codec's name behind it.
func isGRPC(header http.Header) bool {
	kind, found := strings.CutPrefix(single(header["Content-Type"]), "application/grpc")
	return found && (kind == "" || kind[0] == '+' || kind[0] == ';')
}

// patience is how long a request may wait for the head of its answer; 0 is for
// ever. A call's answer may begin when there is something to say, so only its tag
// bounds it, and its client does (the field grpc-timeout, which passes through).
func (x *exchange) patience(grpc bool) time.Duration {
	if grpc {
		return x.plan.options.Timeout
	}
	return x.plan.timeout
}

// errCallOver is the end of a call whose client waits for it no more.
var errCallOver = errors.New("the time that the client gave the call is over")

// callTime is how long a client waits for a call, by its field grpc-timeout: at most
// eight digits and a unit. 0 is that it does not say.
func callTime(value string) time.Duration {
	if len(value) < 2 || len(value) > 9 {
		return 0
	}
	units := map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': 1}
	n, err := strconv.ParseUint(value[:len(value)-1], 10, 32)
	if unit := units[value[len(value)-1]]; err == nil && n <= uint64(maxCall/max(unit, 1)) {
		return time.Duration(n) * unit
	}
	return 0
}

// maxCall is a time beyond which a client as good as waits for ever.
const maxCall = 1 << 62 * time.Nanosecond

// The status codes of gRPC that a gateway has a use for (doc/statuscodes.md).
const (
	grpcUnknown           = 2
	grpcDeadlineExceeded  = 4
	grpcPermissionDenied  = 7
	grpcResourceExhausted = 8
	grpcUnimplemented     = 12
	grpcInternal          = 13
	grpcUnavailable       = 14
	grpcUnauthenticated   = 16
)

// grpcStatus is what a status of HTTP is called in gRPC. It is that of
// doc/http-grpc-status-mapping.md, but where the gateway knows more than the status
// says: whether a call was carried out that had no answer in time is not known, so
// it must not be Unavailable, which clients repeat.
func grpcStatus(status int) int {
	switch status {
	case http.StatusBadRequest:
		return grpcInternal
	case http.StatusUnauthorized:
		return grpcUnauthenticated
	case http.StatusForbidden:
		return grpcPermissionDenied
	case http.StatusNotFound:
		return grpcUnimplemented
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return grpcDeadlineExceeded
	case http.StatusRequestEntityTooLarge, http.StatusRequestHeaderFieldsTooLarge:
		return grpcResourceExhausted
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable:
		return grpcUnavailable
	}
	return grpcUnknown
}

// writeGRPC answers a call ("Trailers-Only": the trailer is the whole answer).
func (content *page) writeGRPC(w http.ResponseWriter) {
	header := w.Header()
	for name, values := range content.Header {
		header[name] = values
	}
	header.Set("Content-Type", "application/grpc")
	header.Set("Grpc-Status", strconv.Itoa(grpcStatus(content.Status)))
	header.Set("Grpc-Message", grpcMessage(content.Title+": "+content.Reason))
	w.WriteHeader(http.StatusOK)
}

// grpcMessage percent-encodes a text as the protocol wants it.
func grpcMessage(text string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}
