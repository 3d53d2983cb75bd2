package h1_test

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"sluice/gateway/h1"
)

func TestLimitsAreExact(t *testing.T) {
	const line, head = "GET /123456789 HTTP/1.1", "GET /123456789 HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n"
	read := func(l h1.Limits) int {
		var status int
		for _, src := range []io.Reader{strings.NewReader(head), iotest.OneByteReader(strings.NewReader(head))} {
			var req h1.Request
			var refused *h1.Error
			if errors.As(h1.NewReader(src, l).ReadRequest(&req), &refused) {
				status = refused.Status
			}
		}
		return status
	}
	cases := []struct {
		name   string
		limits h1.Limits
		want   int
	}{
		{"line", h1.Limits{Line: len(line)}, 0},
		{"line", h1.Limits{Line: len(line) - 1}, 414},
		{"head", h1.Limits{Head: len(head)}, 0},
		{"head", h1.Limits{Head: len(head) - 1}, 431},
		{"fields", h1.Limits{Fields: 2}, 0},
		{"fields", h1.Limits{Fields: 1}, 431},
		{"defaults for nonsense", h1.Limits{Head: -1, Fields: -1, Line: -1, Trailer: -1}, 0},
	}
	for _, c := range cases {
		if got := read(c.limits); got != c.want {
			t.Errorf("%s: %+v: %d, want %d", c.name, c.limits, got, c.want)
		}
	}
}

func TestALargeHeadIsReadIfTheLimitAllowsIt(t *testing.T) {
	value := strings.Repeat("v", 300_000)
	wire := "GET / HTTP/1.1\r\nHost: x\r\nA: " + value + "\r\nContent-Length: 100000\r\n\r\n" + value[:100_000]
	r := h1.NewReader(strings.NewReader(wire+wire), h1.Limits{Head: 1 << 20})
	for range 2 {
		var req h1.Request
		if err := r.ReadRequest(&req); err != nil || string(req.Get("A")) != value {
			t.Fatal(err)
		}
		if n, err := r.CopyBody(h1.NewWriter(io.Discard), req.Body, true); n != 100_000 || err != nil || string(req.Get("A")) != value {
			t.Fatal(n, err)
		}
	}
}

// steps is a source that does what each step says, one at a Read.
type steps []func(p []byte) (int, error)

func (s *steps) Read(p []byte) (int, error) {
	if len(*s) == 0 {
		return 0, io.EOF
	}
	step := (*s)[0]
	*s = (*s)[1:]
	return step(p)
}

func gives(text string, err error) func([]byte) (int, error) {
	return func(p []byte) (int, error) { return copy(p, text), err }
}

func TestWaitGoesOnAfterADeadline(t *testing.T) {
	src := &steps{gives("", os.ErrDeadlineExceeded), gives(goodRequest, nil)}
	r := h1.NewReader(src, h1.Limits{})
	if err := r.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if err := r.Wait(); err != nil || r.Buffered() != len(goodRequest) {
		t.Error(err)
	}
	if err := r.Wait(); err != nil {
		t.Error(err)
	}
	var req h1.Request
	if err := r.ReadRequest(&req); err != nil {
		t.Error(err)
	}
	if err := r.Wait(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestErrorsOfTheSourceComeAsTheyAre(t *testing.T) {
	gone := errors.New("gone")
	for name, src := range map[string]*steps{
		"before the head":    {gives("", gone)},
		"within the head":    {gives("GET /", nil), gives("", gone)},
		"with part of it":    {gives("GET /", gone)},
		"after some nothing": {gives("", nil), gives("", nil), gives("", gone)},
	} {
		var req h1.Request
		if err := h1.NewReader(src, h1.Limits{}).ReadRequest(&req); !errors.Is(err, gone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// An error that comes with the whole head is for whoever reads on.
	var req h1.Request
	r := h1.NewReader(&steps{gives(goodRequest+"x", gone)}, h1.Limits{})
	if err := r.ReadRequest(&req); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(r); string(rest) != "x" || !errors.Is(err, gone) {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestASourceThatGivesNothingIsGivenUp(t *testing.T) {
	nothing := make(steps, 1_000)
	for i := range nothing {
		nothing[i] = gives("", nil)
	}
	var req h1.Request
	if err := h1.NewReader(&nothing, h1.Limits{}).ReadRequest(&req); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

func TestResetForgetsWhatWasBuffered(t *testing.T) {
	var req h1.Request
	r := h1.NewReader(strings.NewReader(goodRequest+"junk"), h1.Limits{})
	if err := r.ReadRequest(&req); err != nil || r.Buffered() != 4 {
		t.Fatal(err)
	}
	r.Reset(strings.NewReader(goodRequest))
	if r.Buffered() != 0 {
		t.Error("it remembers")
	}
	r.Release()
	r.Reset(strings.NewReader(goodRequest))
	if err := r.ReadRequest(&req); err != nil || string(req.Path) != "/first" || len(req.Fields) != 1 {
		t.Error(err)
	}
}

func TestNothingOfTheMessageIsInAnError(t *testing.T) {
	for _, secret := range []string{"GET /hunter2 HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\nhunter2\r\n\r\n", "GET / HTTP/1.1\r\nHost: hunter2/\r\n\r\n"} {
		var req h1.Request
		err := h1.NewReader(strings.NewReader(secret), h1.Limits{}).ReadRequest(&req)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Error(err)
		}
	}
}

func TestAFieldCannotEndItsLine(t *testing.T) {
	for _, value := range []string{"a\r\nX: y", "a\n", "\x00", "a\rb"} {
		var out strings.Builder
		w := h1.NewWriter(&out)
		w.RequestLine([]byte("GET"), []byte("/"))
		w.Field("A", []byte(value))
		w.EndHead()
		if err := w.Flush(); !errors.Is(err, h1.ErrInjection) || out.Len() > 0 {
			t.Errorf("%q: %v, %q", value, err, out.String())
		}
		w.Reset(&out)
		w.Field("A", []byte("b\tc"))
		if err := w.Flush(); err != nil || out.String() != "A: b\tc\r\n" {
			t.Errorf("after Reset: %v, %q", err, out.String())
		}
	}
}
