package proxy

import (
	"errors"
	"fmt"
	"net/http"

	"sluice/gateway/h1"
)

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
