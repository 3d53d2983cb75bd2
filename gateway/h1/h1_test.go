package h1_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"sluice/gateway/h1"
)

func TestPipelinedMessagesAreReadOneByOne(t *testing.T) {
	wire := "\r\nPOST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" +
		"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX-T: 1\r\nContent-Type: x\r\n\r\n" +
		"GET / HTTP/1.0\r\n\r\n"
	r := h1.NewReader(strings.NewReader(wire), h1.Limits{})
	var req h1.Request
	var out bytes.Buffer
	w := h1.NewWriter(&out)
	for range 3 {
		if err := r.ReadRequest(&req); err != nil {
			t.Fatal(err)
		}
		w.RequestLine(req.Method, req.Target)
		for _, f := range req.Fields {
			if !f.Hop {
				w.Copy(f)
			}
		}
		w.Framing(req.Body)
		w.EndHead()
		if _, err := r.CopyBody(w, req.Body, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.ReadRequest(&req); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	want := "POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" +
		"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n" +
		"GET / HTTP/1.1\r\n\r\n"
	if out.String() != want {
		t.Errorf("%q\nwant\n%q", out.String(), want)
	}
}
