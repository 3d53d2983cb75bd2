package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"sluice/gateway/h1/corpus"
	"sluice/gateway/proxy"
)

// script is an instance that answers each request with the same bytes.
type script struct {
	line  atomic.Pointer[scriptLine]
	asked atomic.Int64
}

type scriptLine struct {
	text string
	// stay keeps the connection; else it ends behind the text.
	stay bool
}

func (s *script) talk(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		s.asked.Add(1)
		line := s.line.Load()
		if _, err := io.WriteString(conn, line.text); err != nil || !line.stay {
			return
		}
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			return
		}
	}
}

// told is an answer as a client understands it.
type told struct {
	status int
	reason string
	fields string
	body   string
	// trailer is that of chunks.
	trailer string
	// broken is true if the body ended too early.
	broken bool
}

// listenTo reads the final answer to a request with the method.
func listenTo(t *testing.T, in *bufio.Reader, method string) (got told) {
	t.Helper()
	for {
		response, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return told{broken: true}
		}
		body, err := io.ReadAll(response.Body)
		if response.StatusCode < 200 {
			continue
		}
		got.status, got.broken = response.StatusCode, errors.Is(err, io.ErrUnexpectedEOF)
		got.body, got.reason = string(body), strings.TrimPrefix(response.Status, fmt.Sprint(response.StatusCode, " "))
		for _, name := range []string{"X-Request-Id", "Connection", "Date", "Trailer"} { // of the gateway
			delete(response.Header, name)
		}
		if method != http.MethodHead && response.StatusCode != http.StatusNotModified {
			delete(response.Header, "Content-Length") // the body tells
		}
		got.fields, got.trailer = fmt.Sprint(response.Header), fmt.Sprint(response.Trailer)
		return got
	}
}

// shouldTell is what a client should get of a case of the corpus.
func shouldTell(t *testing.T, c corpus.Case) told {
	t.Helper()
	text := c.Input
	if c.HasOutput {
		text = c.Output
	}
	_, _, whole := strings.Cut(text, "\r\n\r\n")
	final := c.Name != "100 alone" && c.Name != "101" // which is no answer to what was asked
	switch inBody := c.File == "response-body" && (c.Name == "a bad chunk" || c.Name == "a trailer about framing"); {
	case !final || !whole || c.Status != 0 && c.Messages == 0 && !inBody:
		return told{status: http.StatusBadGateway}
	case inBody || c.Cut:
		return told{status: http.StatusOK, broken: true}
	}
	return listenTo(t, bufio.NewReader(strings.NewReader(text)), c.To)
}

func TestAnAnswerReachesTheClientAsItIsOrNotAtAll(t *testing.T) {
	s := &script{}
	l := rawLab(t, s.talk, proxy.Config{})
	differ := answersOfStd()
	for _, c := range corpus.Load(t) {
		if !c.Response {
			continue
		}
		t.Run(c.File+"/"+c.Name, func(t *testing.T) {
			want := shouldTell(t, c)
			good := want.status != http.StatusBadGateway && !want.broken
			s.line.Store(&scriptLine{c.Input, good && (c.Want["keep"] == "true" || c.Messages > 1 || c.Status != 0)})
			conn := l.dial(t)
			in := bufio.NewReader(conn)
			fmt.Fprintf(conn, "%s / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n", c.To)
			got := listenTo(t, in, c.To)
			// However bad, it was an answer: the request was carried out, and is not sent again.
			if n := s.asked.Swap(0); n != 1 && c.Input != "" {
				t.Errorf("the instance was asked %d times", n)
			}
			if got.broken && withStd() {
				got.status = http.StatusOK // the head may not have left
			}
			if !good || withStd() {
				want.reason, got.reason = "", "" // net/http has its own
				want.trailer, got.trailer = "", ""
			}
			if !good {
				want.body, want.fields, got.fields = "", "", ""
				if got.status == http.StatusBadGateway && strings.Contains(got.body, "web-raw on raw) failed") {
					got.body = ""
				}
				if got.broken {
					got.body = "" // what was good of it
				}
			}
			if reason := differ[c.File+"/"+c.Name]; (got == want) != (reason == "") {
				t.Errorf("the client got\n%.1000q\nwant\n%.1000q\nthe reason that is known: %q", fmt.Sprint(got), fmt.Sprint(want), reason)
			}
			// What follows an answer is none to the next request.
			s.line.Store(&scriptLine{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext", true})
			const ask = "GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
			next := l.raw(t, ask)
			if withStd() && (c.Messages > 1 || c.Status != 0) {
				next = l.raw(t, ask) // net/http notices only what comes while nobody asks
			}
			if !strings.HasSuffix(next, "\r\n\r\nnext") {
				t.Errorf("the next request was answered with %q", next)
			}
			s.asked.Store(0)
		})
		delete(differ, c.File+"/"+c.Name)
	}
	for name := range differ {
		t.Errorf("no case has the name %s", name)
	}
}
