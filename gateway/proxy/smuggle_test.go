package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

// hidden is a request for what nobody may have: a list closes /admin/ and the host
// admin.example. If an instance gets it, it was smuggled past the routes.
const hidden = "GET /admin/ HTTP/1.1\r\nHost: x\r\n\r\n"

// guarded is a gateway before one instance whose /admin/ and admin.example are closed.
func guarded(t *testing.T, r *tape) *lab {
	t.Helper()
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	instanceOf(world, "raw", r.talk, "urlprefix-/", "urlprefix-/admin/ deny=ip:127.0.0.0/8", "urlprefix-admin.example/ deny=ip:127.0.0.0/8")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy})
	meshtest.Wait(t, "all routes are there", func() bool { return len(l.Table().Routes()) == 3 })
	if got := l.raw(t, strings.Replace(hidden, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1)); !strings.HasPrefix(got, "HTTP/1.1 403 ") {
		t.Fatalf("what is to be hidden is open: %.200q", got)
	}
	return l
}

// sized is a request with a body of so many bytes as body has, and more fields.
func sized(body, more string) string {
	return "POST / HTTP/1.1\r\nHost: x\r\n" + more + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

// attacks are the ways in which two readers of one connection could see other
// requests than each other.
func attacks() map[string]string {
	const chunked = "Transfer-Encoding: chunked\r\n"
	behindEnd := "0\r\n\r\n" + hidden
	inChunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(hidden), hidden)
	return map[string]string{
		// Who goes by the length takes the request for a body, who goes by the chunks for a request.
		"CL.TE": sized(behindEnd, chunked),
		"TE.CL": "POST / HTTP/1.1\r\nHost: x\r\n" + chunked + "Content-Length: 4\r\n\r\n" + inChunk,
		// One of the two codings is seen by one reader alone.
		"TE.TE, two fields":           sized(behindEnd, chunked+"Transfer-Encoding: identity\r\n"),
		"TE.TE, an unknown coding":    sized(behindEnd, "Transfer-Encoding: xchunked\r\n"),
		"TE.TE, a list":               sized(behindEnd, "Transfer-Encoding: identity, chunked\r\n"),
		"TE.TE, a space in the name":  sized(behindEnd, "Transfer-Encoding : chunked\r\n"),
		"TE.TE, a tab in the name":    sized(behindEnd, "Transfer-Encoding\t: chunked\r\n"),
		"TE.TE, a vertical tab":       sized(behindEnd, "Transfer-Encoding: \x0bchunked\r\n"),
		"TE.TE, on the next line":     sized(behindEnd, "Transfer-Encoding:\r\n chunked\r\n"),
		"TE.TE, behind a bare LF":     sized(behindEnd, "A: b\nTransfer-Encoding: chunked\r\n"),
		"TE.TE, behind a bare CR":     sized(behindEnd, "A: b\rTransfer-Encoding: chunked\r\n"),
		"TE.TE, behind a NUL":         sized(behindEnd, "A: b\x00\r\nTransfer-Encoding: chunked\r\n"),
		"TE.TE, quoted":               sized(behindEnd, "Transfer-Encoding: \"chunked\"\r\n"),
		"TE with HTTP/1.0":            "POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n" + chunked + "\r\n" + behindEnd,
		"CL.CL":                       sized(hidden, "Content-Length: 0\r\n"),
		"CL.CL, a list":               "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 36\r\n\r\n" + hidden,
		"CL.CL, a sign":               "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +36\r\n\r\n" + hidden,
		"CL.0, with GET":              "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: " + strconv.Itoa(len(hidden)) + "\r\n\r\n" + hidden,
		"CL behind a space":           "POST / HTTP/1.1\r\nHost: x\r\n Content-Length: 36\r\n\r\n" + hidden,
		"CL with a space in the name": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 36\r\n\r\n" + hidden,
		// A line end within an extension, or a size that overflows, is one to one reader alone.
		"a bare LF in an extension":  "POST / HTTP/1.1\r\nHost: x\r\n" + chunked + "\r\n2;\nxx\r\n24\r\n0\r\n\r\n" + hidden + "\r\n0\r\n\r\n",
		"a bare LF behind a size":    "POST / HTTP/1.1\r\nHost: x\r\n" + chunked + "\r\n2\nxx\r\n" + behindEnd,
		"a size that overflows":      "POST / HTTP/1.1\r\nHost: x\r\n" + chunked + "\r\n10000000000000000\r\n" + hidden,
		"a bare LF behind the chunk": "POST / HTTP/1.1\r\nHost: x\r\n" + chunked + "\r\n2\r\nxx\n" + behindEnd,
		"a request in a trailer":     "POST / HTTP/1.1\r\nHost: x\r\n" + chunked + "\r\n0\r\n" + hidden,
		"a chunk that is a request":  "POST / HTTP/1.1\r\nHost: x\r\n" + chunked + "\r\n" + inChunk,
		// The end of a head is seen by one reader alone.
		"bare LFs":                "GET / HTTP/1.1\nHost: x\n\n" + hidden,
		"a bare LF ends the head": "GET / HTTP/1.1\r\nHost: x\r\n\n" + hidden,
		"a bare CR ends the head": "GET / HTTP/1.1\r\nHost: x\r\n\r\r" + hidden,
		"a request in a value":    "GET / HTTP/1.1\r\nHost: x\r\nA: b\n\n" + hidden,
		// The request is for one host by its target or one field, and for another by the next.
		"absolute-form":              "GET http://admin.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"absolute-form, other host":  "GET http://x/ HTTP/1.1\r\nHost: admin.example\r\n\r\n",
		"absolute-form, a user":      "GET http://x@admin.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"two hosts":                  "GET / HTTP/1.1\r\nHost: x\r\nHost: admin.example\r\n\r\n",
		"two hosts, the other way":   "GET / HTTP/1.1\r\nHost: admin.example\r\nHost: x\r\n\r\n",
		"a host with a space before": "GET / HTTP/1.1\r\nHost: x\r\n Host: admin.example\r\n\r\n",
		"a host with a comma":        "GET / HTTP/1.1\r\nHost: x,admin.example\r\n\r\n",
		"a host with a path":         "GET / HTTP/1.1\r\nHost: x/admin/\r\n\r\n",
		"a host in the target":       "GET //admin.example/admin/ HTTP/1.1\r\nHost: x\r\n\r\n",
		// The path is another one once somebody has put it in order.
		"dot segments":         "GET /a/../admin/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"escaped dot segments": "GET /a/%2e%2e/admin/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"two slashes":          "GET //admin/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"a backslash":          "GET /\\admin/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"a backslash behind":   "GET /admin\\x HTTP/1.1\r\nHost: x\r\n\r\n",
		"an escaped backslash": "GET /admin%5cx HTTP/1.1\r\nHost: x\r\n\r\n",
		"dots and backslashes": "GET /a\\..\\admin/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"dots and a parameter": "GET /a/..;/admin/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"dots and an escape":   "GET /a/%2e%2e%3bx=y/admin/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"a parameter":          "GET /admin;x=y/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"an empty parameter":   "GET /;/admin/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"an escaped parameter": "GET /admin%3b/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"an escaped letter":    "GET /%61dmin/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"a fragment":           "GET /admin#/../ HTTP/1.1\r\nHost: x\r\n\r\n",
		// What is asked within another version of HTTP passes no route.
		"h2c":                  "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden,
		"h2c without settings": "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket, H2C\r\n\r\n" + hidden,
		"prior knowledge":      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden,
		"an upgrade with CL":   sized(hidden, "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
		"CONNECT":              "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n" + hidden,
	}
}

func TestNoRequestIsSmuggledPastTheRoutes(t *testing.T) {
	r := &tape{}
	l := guarded(t, r)
	for name, attack := range attacks() {
		t.Run(name, func(t *testing.T) {
			conn := l.dial(t)
			// What is whole is answered; what waits for more gets it, as a victim's request
			// behind that of the attacker would.
			_, _ = io.WriteString(conn, attack+"GET /victim HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			_, _ = io.Copy(io.Discard, conn)
			if got := l.raw(t, "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 204 ") {
				t.Errorf("the next request is answered with %.100q", got)
			}
			for _, wire := range r.take() {
				list, rest := split(wire)
				for _, m := range list {
					path := strings.Fields(m.line)[1]
					if m.fields[0] != "Host: x" || strings.Contains(strings.ToLower(path), "admin") && path != "//admin.example/admin/" {
						t.Errorf("the instance got %s for %s", m.line, m.fields[0])
					}
					if strings.Contains(m.String(), "h2c") || strings.Contains(strings.ToUpper(m.String()), "HTTP2-SETTINGS") {
						t.Errorf("the instance was offered HTTP/2: %s", m)
					}
				}
				if strings.Contains(rest, "\r\n\r\nGET ") || strings.HasPrefix(rest, "GET /admin") {
					t.Errorf("the instance got %q", rest)
				}
			}
		})
	}
}

// TestConnectionTakesAwayNoFieldThatAnInstanceReliesOn would fail if a client could
// have the gateway leave out who it is, its session, or how long its body is.
func TestConnectionTakesAwayNoFieldThatAnInstanceReliesOn(t *testing.T) {
	r := &tape{}
	l := guarded(t, r)
	for _, name := range []string{"Content-Length", "X-Forwarded-For", "Cookie", "Authorization", "Host", "x-forwarded-proto", "X-Real-IP", "Forwarded"} {
		got := l.raw(t, sized("hello", "Cookie: a=b\r\nConnection: close, "+name+"\r\n"))
		if wires := r.take(); !strings.HasPrefix(got, "HTTP/1.1 400 ") || len(wires) > 0 {
			t.Errorf("%s: %.100q, and the instance got %q", name, got, wires)
		}
	}
}

// TestABodyThatWasNotReadIsNoRequest would fail if the rest of a body whose request
// was answered early were read as the client's next request, or if the instance took
// the next request for the rest of the body.
func TestABodyThatWasNotReadIsNoRequest(t *testing.T) {
	r := &tape{early: true}
	l := guarded(t, r)
	for _, expect := range []string{"", "Expect: 100-continue\r\n"} {
		conn := l.dial(t)
		reader := bufio.NewReader(conn)
		whole := sized("0123456789"+strings.Replace(hidden, "/admin/", "/inner/", 1), expect)
		early := whole[:strings.Index(whole, "GET ")]
		if expect != "" {
			early = whole[:strings.Index(whole, "0123456789")]
		}
		if withStd() {
			early = whole // net/http reads it before it answers
		}
		fmt.Fprint(conn, early)
		response, err := http.ReadResponse(reader, nil)
		if err == nil && response.StatusCode == http.StatusContinue && withStd() {
			response, err = http.ReadResponse(reader, nil)
		}
		if err != nil || response.StatusCode != http.StatusNoContent || !response.Close && !withStd() {
			t.Fatalf("%q: the early answer is %+v, %v; want 204 and the end", expect, response, err)
		}
		fmt.Fprint(conn, whole[len(early):])
		_ = conn.CloseWrite()
		if rest, err := io.ReadAll(reader); len(rest) > 0 {
			t.Errorf("%q: the rest of a body is answered with %.200q, %v", expect, rest, err)
		}
		got := l.raw(t, "GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 204 ") {
			t.Errorf("%q: the next request is answered with %.100q", expect, got)
		}
		meshtest.Wait(t, "the instance has read all there is", func() bool { return r.live.Load() == 1 })
		next := 0
		for _, wire := range r.take() {
			list, _ := split(wire)
			for _, m := range list {
				if strings.HasPrefix(m.line, "GET /inner/") {
					t.Errorf("%q: the instance got the rest of a body as a request", expect)
				}
				if m.line == "GET /next HTTP/1.1" {
					next++
				}
			}
		}
		if next != 1 {
			t.Errorf("%q: the next request came %d times", expect, next)
		}
	}
}

// TestABodyThatNobodyAskedForIsNoRequest is about a client that announces that it waits
// for leave, and sends its body at once, to an instance that wants none of it.
func TestABodyThatNobodyAskedForIsNoRequest(t *testing.T) {
	more := "Expect: 100-continue\r\n"
	if withStd() {
		more += "Connection: close\r\n" // else it reads the body, and waits
	}
	for _, answer := range []string{"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"} {
		s := &script{}
		s.line.Store(&scriptLine{answer, true})
		l := rawLab(t, s.talk, proxy.Config{})
		for range 3 {
			s.asked.Store(0)
			got := l.raw(t, sized(hidden+hidden, more))
			got = strings.ReplaceAll(got, "HTTP/1.1 100 Continue\r\n\r\n", "")
			if n := strings.Count(got, "HTTP/1.1 "); n != strings.Count(answer, "HTTP/1.1 ") || !strings.HasPrefix(got, answer[:13]) {
				t.Errorf("%d answers: %.300q", n, got)
			}
			if n := s.asked.Load(); n != 1 {
				t.Errorf("the instance was asked %d times", n)
			}
		}
	}
}

// TestARedirectSplitsNoAnswer would fail if a client's path or host could end the
// Location field, and so write fields or a whole answer into a cache.
func TestARedirectSplitsNoAnswer(t *testing.T) {
	l := tags(t, echo, proxy.Config{}, "urlprefix-/moved strip=/moved redirect=302,https://$host/new$path", "urlprefix-/to redirect=301,https://y.example$path")
	for _, c := range []struct{ target, host string }{
		{"/moved/%0d%0aSet-Cookie:%20a=b", "x"},
		{"/to/%0D%0A%0D%0AHTTP/1.1%20200%20OK", "x"},
		{"/to/%E5%98%8A%E5%98%8DSet-Cookie:a=b", "x"},
		{"/to/a?%0d%0aSet-Cookie:a=b", "x"},
		{"/to/a\rSet-Cookie:a=b", "x"},
		{"/to/a?\nSet-Cookie:a=b", "x"},
		{"/moved/a", "x\rSet-Cookie: a=b"},
		{"/moved/a", "x\nSet-Cookie: a=b"},
		{"/moved/a", "x%0d%0aSet-Cookie:a=b"},
		{"/moved/a", "y@x"},
		{"/moved//evil.example/", "x"},
		{"/moved/\\evil.example/", "x"},
	} {
		got := l.raw(t, "GET "+c.target+" HTTP/1.1\r\nHost: "+c.host+"\r\nConnection: close\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
		if err != nil || strings.Count(got, "HTTP/1.1 ") > 1 && !strings.Contains(c.target, "HTTP/1.1") {
			t.Errorf("%q: %q, %v", c, got, err)
			continue
		}
		location := response.Header.Get("Location")
		switch {
		case len(response.Header["Set-Cookie"]) > 0 || strings.ContainsAny(location, "\r\n"):
			t.Errorf("%q: the client has written fields: %q", c, response.Header)
		case response.StatusCode != 400 && !strings.HasPrefix(location, "https://x/new/") && !strings.HasPrefix(location, "https://y.example/to/"):
			t.Errorf("%q: %d, to %q", c, response.StatusCode, location)
		}
	}
}
