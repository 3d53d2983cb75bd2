package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/gateway/accesslog"
	"sluice/gateway/acl"
	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

func networks(t *testing.T, text string) acl.Networks {
	t.Helper()
	list, err := acl.ParseNetworks(text)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// front runs a gateway whose service tells how it thinks the client came.
func front(t *testing.T, cfg proxy.Config) *lab {
	t.Helper()
	return tags(t, func(w http.ResponseWriter, r *http.Request) {
		all := func(name string) string { return strings.Join(r.Header.Values("X-Forwarded-"+name), "|") }
		fmt.Fprintf(w, "%s %s %s %s", all("Proto"), all("Port"), all("Host"), strings.Join(r.Header.Values("Forwarded"), "|"))
	}, cfg, "urlprefix-/ sticky=cookie")
}

// asked sends a request with fields, each a line.
func asked(t *testing.T, l *lab, host string, lines ...string) (head, body string) {
	t.Helper()
	request := "GET /page HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n"
	for _, line := range lines {
		request += line + "\r\n"
	}
	head, body, _ = strings.Cut(l.raw(t, request+"\r\n"), "\r\n\r\n")
	return head, body
}

func TestATrustedProxySaysHowTheClientCameAndNobodyElseDoes(t *testing.T) {
	trusting := front(t, proxy.Config{Trusted: networks(t, "127.0.0.0/8")})
	wary := front(t, proxy.Config{Trusted: networks(t, "192.0.2.1")})
	alone := front(t, proxy.Config{})
	port := func(l *lab) string { return l.url[strings.LastIndexByte(l.url, ':')+1:] }
	const proto, https, fromPort, fromHost = "X-Forwarded-Proto: ", "X-Forwarded-Proto: https", "X-Forwarded-Port: ", "X-Forwarded-Host: "
	for _, test := range []struct {
		name, host string
		lines      []string
		want       string // of the trusting gateway; OWN is its port
	}{
		{"nothing", "a.test", nil, "http OWN a.test "},
		{"all of it", "in.test", []string{https, fromPort + "8443", fromHost + "a.test:8443"}, "https 8443 a.test:8443 "},
		{"TLS alone", "a.test", []string{https}, "https 443 a.test "},
		{"no TLS", "a.test", []string{proto + "http"}, "http 80 a.test "},
		{"TLS, and a port in Host", "a.test:8443", []string{https}, "https 8443 a.test:8443 "},
		{"TLS, and an address with a port", "[::1]:8443", []string{https}, "https 8443 [::1]:8443 "},
		{"a port alone", "a.test", []string{fromPort + "81"}, "http 81 a.test "},
		{"lower case names", "a.test", []string{"x-forwarded-proto: https"}, "https 443 a.test "},
		{"other letters", "a.test", []string{proto + "HTTPS"}, "http OWN a.test "},
		{"no scheme of ours", "a.test", []string{proto + "wss"}, "http OWN a.test "},
		{"a list", "a.test", []string{proto + "https, http", fromPort + "443,80", fromHost + "b.test, c.test"}, "http OWN a.test "},
		{"two fields", "a.test", []string{https, proto + "http", fromPort + "1", fromPort + "2", fromHost + "b.test", fromHost + "c.test"}, "http OWN a.test "},
		{"one field twice", "a.test", []string{https, https}, "http OWN a.test "},
		{"another name for it", "a.test", []string{"X_Forwarded_Proto: https"}, "http OWN a.test "},
		{"no port", "a.test", []string{https, fromPort + "0"}, "https 443 a.test "},
		{"a port that is too large", "a.test", []string{fromPort + "65536"}, "http OWN a.test "},
		{"a port with a sign", "a.test", []string{fromPort + "+80"}, "http OWN a.test "},
		{"no host", "a.test", []string{fromHost + "b.test/x"}, "http OWN a.test "},
		{"Forwarded", "a.test", []string{"Forwarded: proto=https;host=b.test"}, "http OWN a.test "},
	} {
		for l, want := range map[*lab]string{trusting: test.want, wary: "http OWN " + test.host + " ", alone: "http OWN " + test.host + " "} {
			head, body := asked(t, l, test.host, test.lines...)
			if want = strings.Replace(want, "OWN", port(l), 1); !strings.Contains(body, want) {
				t.Errorf("%s: the service saw %q, want %q", test.name, body, want)
			}
			if secure := strings.Contains(head, "; Secure"); secure != strings.HasPrefix(want, "https") {
				t.Errorf("%s: the cookie is %q", test.name, head)
			}
		}
	}
}

func TestTheLogAndTheTraceHaveTheSchemeThatATrustedProxySays(t *testing.T) {
	var out lines
	log, err := accesslog.New(accesslog.Config{Output: &out, Format: "$request_scheme $request_url", Flush: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	world.Run("access log", log.Run)
	serve(world, "web", "web-1", hello, "urlprefix-/")
	var traced spans
	l := with(t, world, proxy.Config{
		Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Trusted: networks(t, "127.0.0.1"), Access: log, Tracer: &traced,
	})
	asked(t, l, "a.test", "X-Forwarded-Proto: https")
	meshtest.Wait(t, "the log has https", func() bool { return strings.Contains(out.String(), "https https://a.test/page\n") })
	asked(t, l, "b.test")
	meshtest.Wait(t, "the log has http", func() bool { return strings.Contains(out.String(), "http http://b.test/page\n") })
	for _, want := range []string{"Scheme:https Host:a.test", "Scheme:http Host:b.test"} {
		if traced.mu.Lock(); !strings.Contains(traced.text, want) {
			t.Errorf("the trace is %s, want %s", traced.text, want)
		}
		traced.mu.Unlock()
	}
}
