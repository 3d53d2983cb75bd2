package h1

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestABodyBeyondTheLimitIsRefusedByItsLengthOrWhenItIsThere(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: a\r\n"
	for _, c := range []struct {
		name, input string
		head, body  int // the statuses, 0 is none
	}{
		{"sized, as much as may be", head + "Content-Length: 4\r\n\r\nabcd", 0, 0},
		{"sized, more", head + "Content-Length: 5\r\n\r\nabcde", 413, 0},
		{"chunked, as much as may be", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n", 0, 0},
		{"chunked, more", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", 0, 413},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewReader(strings.NewReader(c.input), Limits{Body: 4})
			var request Request
			err := r.ReadRequest(&request)
			if got := statusOf(err); got != c.head {
				t.Fatalf("head: %d, %v; want %d", got, err, c.head)
			}
			if err != nil {
				return
			}
			var sent strings.Builder
			_, err = r.CopyBody(NewWriter(&sent), request.Body, true)
			if got := statusOf(err); got != c.body {
				t.Errorf("body: %d, %v; want %d", got, err, c.body)
			}
			if err != nil && strings.Contains(sent.String(), "cde") {
				t.Error("what is beyond the limit was sent on")
			}
		})
	}
}

func statusOf(err error) int {
	var refused *Error
	if errors.As(err, &refused) {
		return refused.Status
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return -1
	}
	return 0
}
