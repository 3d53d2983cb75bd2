package h1_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"sluice/gateway/h1"
	"sluice/gateway/h1/corpus"
)

// maxSeed keeps the seeds to what a fuzzer can change in many places, in bytes.
const maxSeed = 5000

func seed(f *testing.F, wanted func(corpus.Case) (string, bool)) {
	for _, c := range corpus.Load(f) {
		if text, ok := wanted(c); ok && len(text) < maxSeed {
			f.Add(text)
		}
	}
}

// FuzzRequest: whatever bytes come, the verdict does not depend on how they are cut;
// what is accepted means the same to net/http; and what is sent on means the same
// again, to both.
func FuzzRequest(f *testing.F) {
	seed(f, func(c corpus.Case) (string, bool) { return c.Input, !c.Response })
	f.Fuzz(checkRequest)
}

// FuzzChunked is FuzzRequest for the bodies.
func FuzzChunked(f *testing.F) {
	seed(f, func(c corpus.Case) (string, bool) { return strings.CutPrefix(c.Input, corpus.ChunkedHead) })
	f.Fuzz(func(t *testing.T, body string) { checkRequest(t, corpus.ChunkedHead+body) })
}

// FuzzResponse is FuzzRequest for responses to GET and HEAD.
func FuzzResponse(f *testing.F) {
	seed(f, func(c corpus.Case) (string, bool) { return c.Input, c.Response })
	f.Fuzz(func(t *testing.T, wire string) {
		for _, to := range []string{"GET", "HEAD"} {
			out := checkSlicings(t, wire, true, to)
			if again := checkSlicings(t, out, true, to); again != out {
				t.Errorf("to %s: sent on:\n%q\nand that again:\n%q", to, out, again)
			}
			agreeOnResponses(t, wire, to)
		}
	})
}

func checkRequest(t *testing.T, wire string) {
	out := checkSlicings(t, wire, false, "")
	if again := checkSlicings(t, out, false, ""); again != out {
		t.Errorf("sent on:\n%q\nand that again:\n%q", out, again)
	}
	agreeOnRequests(t, wire)
	agreeOnRequests(t, out)
}

// checkSlicings relays the messages, cut in several ways, and returns what was sent
// on of those that are whole.
func checkSlicings(t *testing.T, wire string, response bool, to string) string {
	whole := relay(strings.NewReader(wire), response, to)
	verdict := describe(whole.err)
	for name, slice := range slicings() {
		other := relay(slice(strings.NewReader(wire)), response, to)
		if v := describe(other.err); v != verdict || other.messages != whole.messages {
			t.Errorf("%s: %d messages, %s; whole: %d, %s", name, other.messages, v, whole.messages, verdict)
		}
		if a, b := joined(other.out.String(), response, to), joined(whole.out.String(), response, to); a != b {
			t.Errorf("%s:\n%q\nwhole:\n%q", name, a, b)
		}
	}
	out := whole.out.String()
	if whole.err != nil && !errors.Is(whole.err, io.EOF) {
		// The last message may have been sent on in part.
		return firstOf(out, whole.messages, response, to)
	}
	return out
}

// firstOf returns the first messages of wire.
func firstOf(wire string, messages int, response bool, to string) string {
	src := strings.NewReader(wire)
	r := h1.NewReader(src, h1.Limits{})
	for range messages {
		var req h1.Request
		var resp h1.Response
		if response {
			if r.ReadResponse(&resp, []byte(to)) == nil {
				_, _ = io.Copy(io.Discard, r.Body(resp.Body))
			}
		} else if r.ReadRequest(&req) == nil {
			_, _ = io.Copy(io.Discard, r.Body(req.Body))
		}
	}
	return wire[:len(wire)-src.Len()-r.Buffered()]
}

func describe(err error) string {
	var refused *h1.Error
	if errors.As(err, &refused) {
		return refused.Error()
	}
	return fmt.Sprint(err)
}

// agreeOnRequests reads with both readers for as long as this one accepts.
func agreeOnRequests(t *testing.T, wire string) {
	src, theirs := strings.NewReader(wire), strings.NewReader(wire)
	ours, std := h1.NewReader(src, h1.Limits{}), bufio.NewReaderSize(theirs, 1<<17)
	for {
		var req h1.Request
		if ours.ReadRequest(&req) != nil {
			return
		}
		framed := 0
		for _, f := range req.Fields {
			if name := strings.ToLower(string(f.Name)); name == "content-length" || name == "transfer-encoding" {
				framed++
			}
		}
		if framed > 1 || framed == 0 && req.Body.Kind != h1.NoBody {
			t.Fatalf("%d fields frame %q", framed, wire)
		}
		content, trailers, whole := contentOf(ours, req.Body)
		// net/http's server skips empty lines before a request too, but not here.
		if start, err := std.Peek(2); err == nil && string(start) == "\r\n" {
			_, _ = std.Discard(2)
		}
		r, err := http.ReadRequest(std)
		if err != nil {
			if justified(&req, err) {
				return
			}
			t.Fatalf("net/http refuses %q: %v", wire, err)
		}
		if r.Method != string(req.Method) || r.Host != string(req.Host) || r.RequestURI != string(req.Target) ||
			r.URL.RawQuery != string(req.Query) || r.ProtoMinor != req.Minor || r.Close == req.KeepAlive && req.Minor == 1 {
			t.Fatalf("net/http understands %q as %s %s at %s, close %v", wire, r.Method, r.RequestURI, r.Host, r.Close)
		}
		if chunked := len(r.TransferEncoding) > 0; chunked != (req.Body.Kind == h1.Chunked) || !chunked && r.ContentLength != req.Body.Length {
			t.Fatalf("net/http frames %q with %v, %d", wire, r.TransferEncoding, r.ContentLength)
		}
		if !sameContent(t, wire, r.Body, content, whole) {
			return
		}
		sameTrailers(t, wire, r.Trailer, trailers)
		if a, b := src.Len()+ours.Buffered(), theirs.Len()+std.Buffered(); a != b {
			t.Fatalf("%q: %d bytes are left, and %d to net/http", wire, a, b)
		}
	}
}

// justified reports whether net/http is right to refuse what is accepted here.
func justified(req *h1.Request, err error) bool {
	// It refuses an announcement of trailers that must not come. Here they are refused
	// or dropped when they come, and Trailer is a field like others.
	return req.Get("Trailer") != nil && strings.Contains(err.Error(), "bad trailer key")
}

func agreeOnResponses(t *testing.T, wire, to string) {
	src, theirs := strings.NewReader(wire), strings.NewReader(wire)
	ours, std := h1.NewReader(src, h1.Limits{}), bufio.NewReaderSize(theirs, 1<<17)
	for {
		var resp h1.Response
		if ours.ReadResponse(&resp, []byte(to)) != nil || resp.Status == 101 {
			return
		}
		content, trailers, whole := contentOf(ours, resp.Body)
		r, err := http.ReadResponse(std, &http.Request{Method: to})
		if err != nil {
			if resp.Get("Trailer") != nil && strings.Contains(err.Error(), "bad trailer key") {
				return
			}
			t.Fatalf("net/http refuses %q: %v", wire, err)
		}
		if r.StatusCode != resp.Status || r.ProtoMinor != resp.Minor {
			t.Fatalf("net/http understands %q as %d", wire, r.StatusCode)
		}
		if chunked := len(r.TransferEncoding) > 0; resp.Body.Kind != h1.NoBody && (chunked != (resp.Body.Kind == h1.Chunked) ||
			resp.Body.Kind == h1.Sized && r.ContentLength != resp.Body.Length ||
			resp.Body.Kind == h1.UntilClose && r.ContentLength != -1) {
			t.Fatalf("net/http frames %q with %v, %d", wire, r.TransferEncoding, r.ContentLength)
		}
		if !sameContent(t, wire, r.Body, content, whole) {
			return
		}
		sameTrailers(t, wire, r.Trailer, trailers)
		if a, b := src.Len()+ours.Buffered(), theirs.Len()+std.Buffered(); a != b {
			t.Fatalf("%q: %d bytes are left, and %d to net/http", wire, a, b)
		}
	}
}

// contentOf reads a body in small pieces; whole is false if it is refused or cut.
func contentOf(r *h1.Reader, f h1.Framing) (content string, trailers []h1.Field, whole bool) {
	body := r.Body(f)
	var b strings.Builder
	_, err := io.Copy(&b, iotest.OneByteReader(body))
	return b.String(), body.Trailer(), err == nil
}

// sameContent compares content with what net/http reads. It returns false if the body
// is not whole, in which case net/http may read on where this package stopped.
func sameContent(t *testing.T, wire string, body io.ReadCloser, content string, whole bool) bool {
	theirs, err := io.ReadAll(body)
	if whole && (err != nil || string(theirs) != content) {
		t.Fatalf("net/http reads %q, %v from %q, not %q", theirs, err, wire, content)
	}
	if !whole && err != nil && strings.Contains(err.Error(), "too much non-data") {
		return false // it counts chunks of more than 2^62 bytes wrongly, and stops before their data
	}
	if !whole && !strings.HasPrefix(string(theirs), content) {
		t.Fatalf("net/http reads %q, %v from %q, which does not begin with %q", theirs, err, wire, content)
	}
	return whole
}

// sameTrailers checks that net/http has seen the trailer fields that are kept.
func sameTrailers(t *testing.T, wire string, theirs http.Header, ours []h1.Field) {
	for _, f := range ours {
		found := false
		for name, values := range theirs {
			for _, v := range values {
				found = found || strings.EqualFold(name, string(f.Name)) && v == string(f.Value)
			}
		}
		if !found {
			t.Fatalf("net/http has not the trailer %s: %q of %q", f.Name, f.Value, wire)
		}
	}
}
