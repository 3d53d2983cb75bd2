package h1_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"sluice/gateway/h1"
)

// browser is what a browser sends for a page: ten fields.
const browser = "GET /blog/posts/2026/segmented-by-identity?ref=front&page=2 HTTP/1.1\r\n" +
	"Host: blog.example:9999\r\n" +
	"Connection: keep-alive\r\n" +
	"Upgrade-Insecure-Requests: 1\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n" +
	"Sec-Fetch-Site: same-origin\r\n" +
	"Referer: http://blog.example:9999/blog/\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n" +
	"Cookie: session=4f7a3f0e2c9b4d71a86e5a0c; theme=dark\r\n\r\n"

const answer = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=UTF-8\r\nDate: Thu, 26 Nov 2026 04:04:27 GMT\r\n" +
	"Vary: Accept-Encoding\r\nContent-Length: 4\r\n\r\npage"

// again is a source that says the same for ever, a message at a Read at most.
type again struct {
	wire string
	at   int
}

func (a *again) Read(p []byte) (int, error) {
	n := copy(p, a.wire[a.at:])
	if a.at += n; a.at == len(a.wire) {
		a.at = 0
	}
	return n, nil
}

func chunks(size, count int) string {
	return strings.Repeat(fmt.Sprintf("%x\r\n%s\r\n", size, strings.Repeat("x", size)), count) + "0\r\nX-T: a\r\n\r\n"
}

func TestNothingIsAllocatedForAMessage(t *testing.T) {
	if raced {
		t.Skip("a sync.Pool forgets on purpose under the race detector")
	}
	post := "POST / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, x-a\r\nX-A: b\r\nTE: trailers\r\n"
	wires := map[string]string{
		"a browser's request": browser,
		"1 KiB":               post + "Content-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024),
		"1 MiB":               post + "Content-Length: 1048576\r\n\r\n" + strings.Repeat("x", 1<<20),
		"chunks":              post + "Transfer-Encoding: chunked\r\n\r\n" + chunks(1000, 3),
		"large chunks":        post + "Transfer-Encoding: chunked\r\n\r\n" + chunks(100_000, 3),
		"a large head":        post + "A: " + strings.Repeat("x", 30_000) + "\r\n\r\n",
	}
	for name, wire := range wires {
		t.Run(name, func(t *testing.T) {
			pool := h1.NewPool()
			r, w := pool.NewReader(&again{wire: wire}, h1.Limits{}), pool.NewWriter(io.Discard)
			var req h1.Request
			exchange := func() {
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
			if n := testing.AllocsPerRun(200, exchange); n > 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
	t.Run("a response", func(t *testing.T) {
		r, w := h1.NewReader(&again{wire: answer}, h1.Limits{}), h1.NewWriter(io.Discard)
		var resp h1.Response
		get := []byte("GET")
		n := testing.AllocsPerRun(200, func() {
			if err := r.ReadResponse(&resp, get); err != nil {
				t.Fatal(err)
			}
			w.StatusLine(resp.Status, resp.Reason)
			w.Field("Via", resp.Get("vary"))
			w.EndHead()
			if drained, err := r.Discard(resp.Body, 100); !drained || err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		})
		if n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
	t.Run("a head byte by byte", func(t *testing.T) {
		r := h1.NewReader(&trickle{wire: browser}, h1.Limits{})
		var req h1.Request
		if n := testing.AllocsPerRun(20, func() { _ = r.ReadRequest(&req) }); n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// trickle is again, byte by byte.
type trickle again

func (s *trickle) Read(p []byte) (int, error) { return (*again)(s).Read(p[:1]) }

func BenchmarkReadRequest(b *testing.B) {
	b.Run("h1", func(b *testing.B) {
		b.SetBytes(int64(len(browser)))
		b.ReportAllocs()
		r := h1.NewReader(&again{wire: browser}, h1.Limits{})
		var req h1.Request
		for b.Loop() {
			if err := r.ReadRequest(&req); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("net-http", func(b *testing.B) {
		b.SetBytes(int64(len(browser)))
		b.ReportAllocs()
		r := bufio.NewReader(&again{wire: browser})
		for b.Loop() {
			if _, err := http.ReadRequest(r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkReadResponse(b *testing.B) {
	b.Run("h1", func(b *testing.B) {
		b.ReportAllocs()
		r := h1.NewReader(&again{wire: answer}, h1.Limits{})
		var resp h1.Response
		get := []byte("GET")
		for b.Loop() {
			if err := r.ReadResponse(&resp, get); err != nil {
				b.Fatal(err)
			}
			if _, err := r.Discard(resp.Body, 4); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("net-http", func(b *testing.B) {
		b.ReportAllocs()
		r := bufio.NewReader(&again{wire: answer})
		for b.Loop() {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// copied is a destination that costs what a copy costs.
type copied struct{ to [64 << 10]byte }

func (c *copied) Write(p []byte) (int, error) {
	for at := 0; at < len(p); {
		at += copy(c.to[:], p[at:])
	}
	return len(p), nil
}

func BenchmarkCopyBody(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		bodies := map[h1.Kind]string{
			h1.Sized:   strings.Repeat("x", size),
			h1.Chunked: chunks(min(size, 16<<10), max(1, size/(16<<10))),
		}
		for kind, name := range map[h1.Kind]string{h1.Sized: "sized", h1.Chunked: "chunked"} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				f := h1.Framing{Kind: kind}
				if kind == h1.Sized {
					f.Length = int64(size)
				}
				r, w := h1.NewReader(&again{wire: bodies[kind]}, h1.Limits{}), h1.NewWriter(&copied{})
				for b.Loop() {
					if n, err := r.CopyBody(w, f, true); n != int64(size) || err != nil {
						b.Fatal(n, err)
					}
				}
			})
		}
		b.Run(fmt.Sprintf("io-copy/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			src, dst, buf := &again{wire: strings.Repeat("x", size)}, &copied{}, make([]byte, 64<<10)
			for b.Loop() {
				if _, err := io.CopyBuffer(onlyWriter{dst}, io.LimitReader(src, int64(size)), buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// onlyWriter hides every method but Write.
type onlyWriter struct{ io.Writer }

func BenchmarkSendOn(b *testing.B) {
	b.ReportAllocs()
	var out bytes.Buffer
	r, w := h1.NewReader(&again{wire: browser}, h1.Limits{}), h1.NewWriter(&out)
	var req h1.Request
	for b.Loop() {
		out.Reset()
		if err := r.ReadRequest(&req); err != nil {
			b.Fatal(err)
		}
		w.RequestLine(req.Method, req.Target)
		for i := range req.Fields {
			if !req.Fields[i].Hop {
				w.Copy(req.Fields[i])
			}
		}
		w.Framing(req.Body)
		w.EndHead()
		if err := w.Flush(); err != nil {
			b.Fatal(err)
		}
	}
}
