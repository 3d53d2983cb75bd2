package h1_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"sluice/gateway/h1"
	"sluice/gateway/h1/corpus"
)

const (
	goodRequest  = "GET /first HTTP/1.1\r\nHost: first\r\n\r\n"
	goodResponse = "HTTP/1.1 204 First\r\n\r\n"
)

// relayed is what became of the bytes of a connection.
type relayed struct {
	messages int
	err      error // what ended it; nil where a message said that it is the last
	last     map[string]string
	out      bytes.Buffer
}

// relay reads messages and sends them on until the source ends, something is refused
// or a message is the last.
func relay(src io.Reader, response bool, to string) *relayed {
	result := &relayed{}
	r, w := h1.NewReader(src, h1.Limits{}), h1.NewWriter(&result.out)
	defer r.Release()
	for result.err == nil {
		body, more := h1.Framing{}, false
		if response {
			body, more = result.response(r, w, to)
		} else {
			body, more = result.request(r, w)
		}
		if result.err != nil {
			return result
		}
		if _, result.err = r.CopyBody(w, body, true); result.err != nil {
			return result
		}
		result.messages++
		if !more {
			return result
		}
	}
	return result
}

func (m *relayed) request(r *h1.Reader, w *h1.Writer) (body h1.Framing, more bool) {
	var req h1.Request
	if m.err = r.ReadRequest(&req); m.err != nil {
		return body, false
	}
	w.RequestLine(req.Method, req.Target)
	list := req.Fields
	if len(req.Host) == 0 {
		w.Field("Host", []byte(corpus.NoHost))
		list = slices.DeleteFunc(slices.Clone(list), func(f h1.Field) bool { return strings.EqualFold(string(f.Name), "Host") })
	}
	fields(w, list, req.Body, req.Upgrade)
	m.last = map[string]string{
		"method": string(req.Method), "target": string(req.Target), "path": string(req.Path), "query": string(req.Query),
		"has-query": strconv.FormatBool(req.HasQuery), "minor": strconv.Itoa(req.Minor), "host": string(req.Host),
		"body": framing(req.Body), "keep": strconv.FormatBool(req.KeepAlive), "expect": strconv.FormatBool(req.Expect100),
		"upgrade": orDash(req.Upgrade), "te-trailers": strconv.FormatBool(req.TETrailers),
	}
	m.first(req.Fields, req.Get)
	return req.Body, req.KeepAlive
}

func (m *relayed) response(r *h1.Reader, w *h1.Writer, to string) (body h1.Framing, more bool) {
	var resp h1.Response
	if m.err = r.ReadResponse(&resp, []byte(to)); m.err != nil {
		return body, false
	}
	w.StatusLine(resp.Status, resp.Reason)
	fields(w, resp.Fields, resp.Body, resp.Upgrade)
	m.last = map[string]string{
		"status": strconv.Itoa(resp.Status), "reason": string(resp.Reason), "minor": strconv.Itoa(resp.Minor),
		"body": framing(resp.Body), "keep": strconv.FormatBool(resp.KeepAlive), "upgrade": orDash(resp.Upgrade),
	}
	m.first(resp.Fields, resp.Get)
	return resp.Body, resp.KeepAlive && resp.Status != 101
}

// first remembers the value that Get finds for the first field that is not about the
// message itself.
func (m *relayed) first(fields []h1.Field, get func(string) []byte) {
	for _, f := range fields {
		if name := strings.ToUpper(string(f.Name)); name != "HOST" && !f.Hop {
			m.last["field"] = string(f.Name) + ":" + string(get(name))
			return
		}
	}
}

// fields sends on what is not for one hop, and the framing where it was.
func fields(w *h1.Writer, list []h1.Field, body h1.Framing, upgrade []byte) {
	for _, f := range list {
		switch name := strings.ToLower(string(f.Name)); {
		case !f.Hop:
			w.Copy(f)
		case name == "content-length" || name == "transfer-encoding":
			w.Framing(body)
		}
	}
	if upgrade != nil {
		w.Field("Connection", []byte("Upgrade"))
		w.Field("Upgrade", upgrade)
	}
	w.EndHead()
}

func framing(f h1.Framing) string {
	switch f.Kind {
	case h1.Sized:
		return fmt.Sprintf("sized:%d", f.Length)
	case h1.Chunked:
		return "chunked"
	case h1.UntilClose:
		return "close"
	}
	return "none"
}

func orDash(b []byte) string {
	if b == nil {
		return "-"
	}
	return string(b)
}

// joined returns messages with the chunks of each body made one: where the chunks
// are cut depends on what came together.
func joined(wire string, response bool, to string) string {
	var out strings.Builder
	r := h1.NewReader(strings.NewReader(wire), h1.Limits{})
	w := h1.NewWriter(&out)
	for {
		var req h1.Request
		var resp h1.Response
		body, list, err := h1.Framing{}, []h1.Field(nil), error(nil)
		if response {
			err = r.ReadResponse(&resp, []byte(to))
			w.StatusLine(resp.Status, resp.Reason)
			body, list = resp.Body, resp.Fields
		} else {
			err = r.ReadRequest(&req)
			w.RequestLine(req.Method, req.Target)
			body, list = req.Body, req.Fields
		}
		if err != nil {
			return out.String()
		}
		fields(w, list, body, nil)
		_ = w.Flush()
		b := r.Body(body)
		content, err := io.ReadAll(b)
		fmt.Fprintf(&out, "%d %q %v", len(content), content, err)
		for _, f := range b.Trailer() {
			fmt.Fprintf(&out, " %s: %s", f.Name, f.Value)
		}
		if err != nil {
			return out.String()
		}
	}
}

// slicings are the ways in which the bytes of a case arrive.
func slicings() map[string]func(io.Reader) io.Reader {
	return map[string]func(io.Reader) io.Reader{
		"whole":            func(r io.Reader) io.Reader { return r },
		"byte by byte":     iotest.OneByteReader,
		"in halves":        iotest.HalfReader,
		"ending with data": iotest.DataErrReader,
	}
}

func TestEveryCaseOfTheCorpusHasItsVerdict(t *testing.T) {
	for _, c := range corpus.Load(t) {
		t.Run(c.File+"/"+c.Name, func(t *testing.T) {
			for name, slice := range slicings() {
				t.Run(name, func(t *testing.T) { judge(t, c, slice(strings.NewReader(c.Input))) })
			}
			t.Run("pipelined", func(t *testing.T) {
				before := goodRequest
				if c.Response {
					before = goodResponse
				}
				piped := c
				piped.Messages, piped.Output = c.Messages+1, before+c.Output
				judge(t, piped, strings.NewReader(before+c.Input))
			})
		})
	}
}

func judge(t *testing.T, c corpus.Case, src io.Reader) {
	got := relay(src, c.Response, c.To)
	var refused *h1.Error
	switch errors.As(got.err, &refused); {
	case c.Status != 0:
		if refused == nil || refused.Status != c.Status {
			t.Errorf("not refused with %d: %v", c.Status, got.err)
		}
	case c.Cut:
		if !errors.Is(got.err, io.ErrUnexpectedEOF) {
			t.Errorf("not cut: %v", got.err)
		}
	case got.err != nil && !errors.Is(got.err, io.EOF):
		t.Errorf("refused: %v", got.err)
	}
	if got.messages != c.Messages {
		t.Errorf("%d messages, want %d", got.messages, c.Messages)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Want)) {
		if value, ok := got.last[name]; !ok || value != c.Want[name] {
			t.Errorf("%s is %q, want %q", name, value, c.Want[name])
		}
	}
	if !c.HasOutput {
		return
	}
	out := got.out.String()
	if _, cut := src.(*strings.Reader); cut && len(c.Input) < 4000 && out != c.Output {
		t.Errorf("sent on:\n%q\nwant:\n%q", out, c.Output)
	}
	if a, b := joined(out, c.Response, c.To), joined(c.Output, c.Response, c.To); a != b {
		t.Errorf("sent on, with chunks joined:\n%.1000q\nwant:\n%.1000q", a, b)
	}
}

func TestTheCorpusIsLarge(t *testing.T) {
	requests, responses, bodies := 0, 0, 0
	for _, c := range corpus.Load(t) {
		switch {
		case c.Response:
			responses++
		case c.Body:
			bodies++
		default:
			requests++
		}
	}
	if requests < 300 || responses < 60 || bodies < 60 {
		t.Errorf("%d requests, %d responses, %d bodies", requests, responses, bodies)
	}
	t.Logf("%d requests, %d responses, %d bodies", requests, responses, bodies)
}
