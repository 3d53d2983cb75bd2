package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"sluice/gateway/h1"
)

// What net/http takes is looked at once more, so that the two codecs agree on whom a
// request is for and on what of it reaches an instance. Where net/http is lenient about
// the form alone, it stays so: it writes anew what it has understood.

// misread says why a request that net/http has taken is refused; "" is that it is not.
func misread(r *http.Request) string {
	switch {
	case !strings.HasPrefix(r.RequestURI, "/") && r.RequestURI != "*":
		return "the request target is not in origin-form"
	case r.Host == "" && r.ProtoAtLeast(1, 1), r.Host != "" && !h1.ValidHost(r.Host):
		return "the Host field is malformed"
	case strings.ContainsFunc(r.RequestURI, odd), strings.Contains(r.URL.Path, "\x00"):
		return "the request target is malformed"
	}
	for _, value := range r.Header["Connection"] {
		for option := range strings.SplitSeq(value, ",") {
			option = strings.TrimSpace(option)
			if h1.EndToEnd(option) {
				return "Connection names a field that is not for it"
			}
			if strings.EqualFold(option, "upgrade") && len(r.Header["Upgrade"]) > 1 {
				return "there is more than one Upgrade field"
			}
		}
	}
	return ""
}

// tooManyFields reports whether a request has more header fields than it may: what is
// done for each of them is the gateway's work.
func (p *Proxy) tooManyFields(r *http.Request) bool {
	fields := 0
	if r.Host != "" {
		fields = 1 // net/http keeps it apart
	}
	for _, values := range r.Header {
		fields += len(values)
	}
	return p.cfg.MaxFields > 0 && fields > p.cfg.MaxFields
}

func pageTooManyFields() *page {
	answer := pageMisread("it has too many header fields")
	answer.Status = http.StatusRequestHeaderFieldsTooLarge
	answer.Title = http.StatusText(answer.Status)
	return answer
}

// odd reports whether a byte of a request target is one on which readers differ.
func odd(c rune) bool { return c <= ' ' || c >= 0x7f || c == '#' }

func pageMisread(reason string) *page {
	return &page{
		Status: http.StatusBadRequest, Title: "Bad request", Reason: "The request is refused: " + reason + ".",
		Header: http.Header{"Connection": {"close"}},
	}
}

// clientBody marks what is wrong with a client's body as the client's fault: no
// instance has failed because of it.
func clientBody(err error) error { return &h1.ReadError{Err: err} }

// pageForBody answers a request whose body could not be read. What follows it on the
// connection is no request, so the connection ends.
func pageForBody(err error) *page {
	answer := &page{Status: http.StatusBadRequest, Title: "Bad request", Reason: "The body of the request is malformed or too short."}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		answer.Status, answer.Reason = http.StatusRequestEntityTooLarge, fmt.Sprintf("The body of the request has more than %d bytes.", large.Limit)
	case isTimeout(err):
		answer.Status, answer.Reason = http.StatusRequestTimeout, "The body of the request did not come in time."
	}
	answer.Title = http.StatusText(answer.Status)
	answer.Header = http.Header{"Connection": {"close"}}
	return answer
}
