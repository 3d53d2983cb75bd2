package h1_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"sluice/gateway/h1"
	"sluice/gateway/h1/corpus"
)

// request returns a Reader behind the head of a request, and the request.
func request(t testing.TB, src io.Reader) (*h1.Reader, *h1.Request) {
	t.Helper()
	r, req := h1.NewReader(src, h1.Limits{}), &h1.Request{}
	if err := r.ReadRequest(req); err != nil {
		t.Fatal(err)
	}
	return r, req
}

// writes keeps what each Write was given.
type writes struct {
	all []string
	err error // of the next Write
}

func (w *writes) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	w.all = append(w.all, string(p))
	return len(p), nil
}

func TestAHeadAndTheBodyThatIsThereLeaveInOneWrite(t *testing.T) {
	for _, wire := range []string{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3900\r\n\r\n" + strings.Repeat("x", 3900),
		corpus.ChunkedHead + "5\r\nhello\r\n1\r\n!\r\n0\r\nX-T: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		r, req := request(t, strings.NewReader(wire))
		var to writes
		w := h1.NewWriter(&to)
		w.RequestLine(req.Method, req.Target)
		fields(w, req.Fields, req.Body, nil)
		if _, err := r.CopyBody(w, req.Body, true); err != nil {
			t.Fatal(err)
		}
		if len(to.all) != 1 || to.all[0] != wire {
			t.Errorf("%d writes: %.300q", len(to.all), to.all)
		}
		if w.Written() != int64(len(wire)) || w.Buffered() != 0 {
			t.Errorf("%d bytes written, %d wait", w.Written(), w.Buffered())
		}
	}
}

// TestWhatHasComeIsSentBeforeMoreIsAwaited fails by hanging: nothing more comes before
// what came has been read at the other end.
func TestWhatHasComeIsSentBeforeMoreIsAwaited(t *testing.T) {
	cases := []struct {
		name    string
		framing h1.Framing
		in, out []string
	}{
		{"sized", h1.Framing{Kind: h1.Sized, Length: 6}, []string{"a", "bc", "def"}, []string{"a", "bc", "def"}},
		{"until close", h1.Framing{Kind: h1.UntilClose}, []string{"data: a\n\n", "data: b\n\n"}, []string{"data: a\n\n", "data: b\n\n"}},
		{
			"chunked",
			h1.Framing{Kind: h1.Chunked},
			// A chunk is sent on as far as it came.
			[]string{"5\r\nhello\r\n", "2\r\nx", "y\r\n1\r\nz\r\n", "0\r\n\r\n"},
			[]string{"5\r\nhello\r\n", "1\r\nx\r\n", "1\r\ny\r\n1\r\nz\r\n", "0\r\n\r\n"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in, feed := io.Pipe()
			look, out := io.Pipe()
			var copying sync.WaitGroup
			copying.Go(func() {
				r, w := h1.NewReader(in, h1.Limits{}), h1.NewWriter(out)
				w.String("head ")
				_, err := r.CopyBody(w, c.framing, true)
				_ = out.CloseWithError(err)
				_ = in.CloseWithError(err)
			})
			defer copying.Wait()
			expect(t, look, "head ")
			for i, piece := range c.in {
				if _, err := io.WriteString(feed, piece); err != nil {
					t.Fatal(err)
				}
				expect(t, look, c.out[i])
			}
			_ = feed.Close()
			if rest, err := io.ReadAll(look); len(rest) > 0 || err != nil {
				t.Errorf("then %q, %v", rest, err)
			}
		})
	}
}

func expect(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v; want %q", got, err, want)
	}
}

func TestErrorsSayWhoBrokeTheBody(t *testing.T) {
	gone := errors.New("gone")
	sized, chunked := h1.Framing{Kind: h1.Sized, Length: 10}, h1.Framing{Kind: h1.Chunked}
	cases := []struct {
		name    string
		framing h1.Framing
		src     io.Reader
		dst     error
		cause   error
		read    bool
		n       int64
	}{
		{"the client ends", sized, strings.NewReader("hello"), nil, io.ErrUnexpectedEOF, true, 5},
		{"the client fails", sized, io.MultiReader(strings.NewReader("hello"), failing{gone}), nil, gone, true, 5},
		{"the upstream fails", sized, strings.NewReader("hello, you"), gone, gone, false, 0},
		{"a chunk is cut", chunked, strings.NewReader("5\r\nhel"), nil, io.ErrUnexpectedEOF, true, 3},
		{"the source fails until close", h1.Framing{Kind: h1.UntilClose}, io.MultiReader(strings.NewReader("hello"), failing{gone}), nil, gone, true, 5},
		{"nothing is left to flush to", h1.Framing{}, strings.NewReader(""), gone, gone, false, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := h1.NewWriter(&writes{err: c.dst})
			w.String("head")
			n, err := h1.NewReader(c.src, h1.Limits{}).CopyBody(w, c.framing, true)
			var reading *h1.ReadError
			var writing *h1.WriteError
			if !errors.Is(err, c.cause) || errors.As(err, &reading) != c.read || errors.As(err, &writing) == c.read {
				t.Errorf("%v", err)
			}
			if c.read && n != c.n {
				t.Errorf("%d bytes, want %d", n, c.n)
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestABrokenBodyIsNotEnded(t *testing.T) {
	for _, body := range []string{"5\r\nhello\r\nx\r\n", "5\r\nhello\r\n", "5\r\nhello", "0\r\nHost: y\r\n\r\n", "0\r\n"} {
		r, req := request(t, strings.NewReader(corpus.ChunkedHead+body))
		var out strings.Builder
		if _, err := r.CopyBody(h1.NewWriter(&out), req.Body, true); err == nil {
			t.Errorf("%q is good", body)
		}
		if strings.Contains(out.String(), "0\r\n\r\n") || strings.HasPrefix(body, "5") && out.String() != "5\r\nhello\r\n" {
			t.Errorf("%q is sent on as %q", body, out.String())
		}
	}
}

func TestHeadsStayWhileBodiesAreRead(t *testing.T) {
	for _, size := range []int{10, 5_000, 300_000} {
		for _, pad := range []int{1, 3_000, 3_990, 20_000, 64_000} {
			target := "/" + strings.Repeat("p", 100) + "?q"
			padding := strings.Repeat("v", pad)
			wire := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nA: %s\r\nContent-Length: %d\r\n\r\n%s", target, padding, size, strings.Repeat("b", size))
			r := h1.NewReader(strings.NewReader(wire+wire), h1.Limits{})
			var req h1.Request
			for range 2 {
				if err := r.ReadRequest(&req); err != nil {
					t.Fatal(err)
				}
				var out strings.Builder
				if n, err := r.CopyBody(h1.NewWriter(&out), req.Body, true); n != int64(size) || err != nil {
					t.Fatal(n, err)
				}
				if string(req.Target) != target || string(req.Get("a")) != padding || string(req.Host) != "x" || strings.Trim(out.String(), "b") != "" {
					t.Errorf("size %d, head %d: the head has changed", size, pad)
				}
			}
		}
	}
}

func TestABodyCanChangeItsKind(t *testing.T) {
	chunked := "2\r\nab\r\n3\r\ncde\r\n0\r\nX-T: 1\r\n\r\n"
	cases := []struct {
		from, to h1.Kind
		in, out  string
		keep     bool
	}{
		{h1.Chunked, h1.UntilClose, chunked, "abcde", true},
		{h1.Chunked, h1.Chunked, chunked, "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", false},
		{h1.UntilClose, h1.Chunked, "abc", "3\r\nabc\r\n0\r\n\r\n", true},
		{h1.UntilClose, h1.Chunked, "", "0\r\n\r\n", true},
		{h1.Sized, h1.Chunked, "abc", "3\r\nabc\r\n0\r\n\r\n", true},
	}
	for _, c := range cases {
		r, from := h1.NewReader(strings.NewReader(c.in), h1.Limits{}), h1.Framing{Kind: c.from}
		if c.from == h1.Sized {
			from.Length = int64(len(c.in))
		}
		var out strings.Builder
		if _, err := r.CopyBodyAs(h1.NewWriter(&out), from, c.to, c.keep); err != nil || out.String() != c.out {
			t.Errorf("%d to %d: %q, %v; want %q", c.from, c.to, out.String(), err, c.out)
		}
	}
}

func TestDiscardGoesAsFarAsItMay(t *testing.T) {
	next := "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
	cases := []struct {
		framing h1.Framing
		in      string
		limit   int64
		drained bool
		err     error
	}{
		{h1.Framing{}, "", 0, true, nil},
		{h1.Framing{Kind: h1.Sized}, "", 0, true, nil},
		{h1.Framing{Kind: h1.Sized, Length: 5}, "hello", 5, true, nil},
		{h1.Framing{Kind: h1.Sized, Length: 5}, "", 4, false, nil},
		{h1.Framing{Kind: h1.Sized, Length: 100_000}, strings.Repeat("x", 100_000), 1 << 20, true, nil},
		{h1.Framing{Kind: h1.Sized, Length: 500}, "x", 1 << 20, false, io.ErrUnexpectedEOF},
		{h1.Framing{Kind: h1.Chunked}, "5\r\nhello\r\n0\r\nX-T: a\r\n\r\n", 5, true, nil},
		{h1.Framing{Kind: h1.Chunked}, "5\r\nhello\r\n1\r\nx\r\n0\r\n\r\n", 5, false, nil},
		{h1.Framing{Kind: h1.UntilClose}, "hello", 100, false, nil},
	}
	for _, c := range cases {
		r := h1.NewReader(strings.NewReader(c.in+next), h1.Limits{})
		drained, err := r.Discard(c.framing, c.limit)
		if drained != c.drained || !errors.Is(err, c.err) {
			t.Errorf("%+v: %v, %v", c, drained, err)
		}
		var req h1.Request
		if err := r.ReadRequest(&req); drained && (err != nil || string(req.Path) != "/next") {
			t.Errorf("%+v: the next request: %v", c, err)
		}
	}
}

func TestBodyIsAReader(t *testing.T) {
	r, req := request(t, strings.NewReader(corpus.ChunkedHead+"5\r\nhello\r\n0\r\nX-T: a\r\nHost2: b\r\nCookie: c\r\n\r\n"+goodRequest))
	body := r.Body(req.Body)
	if n, err := body.Read(nil); n != 0 || err != nil {
		t.Error(n, err)
	}
	p := make([]byte, 2)
	if n, err := body.Read(p); n != 2 || err != nil || string(p) != "he" || body.Ended() || body.Trailer() != nil {
		t.Errorf("%q %v", p[:n], err)
	}
	rest, err := io.ReadAll(body)
	if string(rest) != "llo" || err != nil || !body.Ended() {
		t.Errorf("%q, %v", rest, err)
	}
	var trailer strings.Builder
	for _, f := range body.Trailer() {
		fmt.Fprintf(&trailer, "%s=%s ", f.Name, f.Value)
	}
	if trailer.String() != "X-T=a Host2=b " {
		t.Error(trailer.String())
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	if _, err := body.Read(p); !errors.Is(err, h1.ErrBodyClosed) {
		t.Error(err)
	}
	if err := r.ReadRequest(req); err != nil || string(req.Path) != "/first" {
		t.Error(err)
	}
}

func TestWhatIsLeftOfABodyCanBeDiscarded(t *testing.T) {
	r, req := request(t, strings.NewReader("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"+goodRequest))
	body := r.Body(req.Body)
	if _, err := io.ReadFull(body, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	if drained, err := body.Discard(3); !drained || err != nil || !body.Ended() {
		t.Error(drained, err)
	}
	if err := r.ReadRequest(req); err != nil || string(req.Path) != "/first" {
		t.Error(err)
	}
}

func TestBytesAfterAnUpgradeAreReadAsTheyAre(t *testing.T) {
	head := "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
	client, server := net.Pipe()
	var serving sync.WaitGroup
	defer serving.Wait()
	defer client.Close()
	serving.Go(func() {
		defer server.Close()
		_, _ = io.WriteString(server, head+"first\r\r\n")
		_, _ = io.WriteString(server, " second")
	})
	r := h1.NewReader(client, h1.Limits{})
	var resp h1.Response
	if err := r.ReadResponse(&resp, []byte("GET")); err != nil || string(resp.Upgrade) != "echo" {
		t.Fatal(err)
	}
	if n := r.Buffered(); n != len("first\r\r\n") {
		t.Errorf("%d bytes came with the head", n)
	}
	if all, err := io.ReadAll(r); err != nil || string(all) != "first\r\r\n second" {
		t.Errorf("%q, %v", all, err)
	}
}

func TestPiecesOfEachSizeAreWrittenWhole(t *testing.T) {
	for _, head := range []int{0, 10, 4_000, 65_530, 70_000} {
		for _, size := range []int{1, 4_096, 65_500, 65_536, 200_000} {
			var out bytes.Buffer
			w := h1.NewWriter(&out)
			w.String(strings.Repeat("h", head))
			n, err := w.Write(bytes.Repeat([]byte("b"), size))
			if ferr := w.Flush(); n != size || err != nil || ferr != nil {
				t.Fatal(n, err, ferr)
			}
			if want := strings.Repeat("h", head) + strings.Repeat("b", size); out.String() != want {
				t.Errorf("%d bytes of head and %d of body became %d", head, size, out.Len())
			}
		}
	}
}

func TestALargeBodyMovesInLargePieces(t *testing.T) {
	for _, wire := range []string{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1_000_000),
		corpus.ChunkedHead + chunks(100_000, 10),
	} {
		r, req := request(t, strings.NewReader(wire))
		var to writes
		if n, err := r.CopyBody(h1.NewWriter(&to), req.Body, true); n != 1_000_000 || err != nil {
			t.Fatal(n, err)
		}
		if len(to.all) > 20 {
			t.Errorf("1 MB took %d writes", len(to.all))
		}
	}
}
