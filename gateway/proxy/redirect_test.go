package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"sluice/gateway/acl"
	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

func TestARedirectThatLeadsBackIsNoAnswer(t *testing.T) {
	l := tags(t, echo, proxy.Config{},
		"urlprefix-/grow redirect=302,/grow/more$path", "urlprefix-/home redirect=302,/home/start", "urlprefix-/home/start",
		"urlprefix-/a redirect=302,/b/x", "urlprefix-/b redirect=302,/a/x",
		"urlprefix-/once redirect=302,http://www.example.com/once/there", "urlprefix-/tls redirect=302,https://$host$path",
		"urlprefix-/down redirect=302,/down/here", "urlprefix-/down/here redirect=302,https://elsewhere.example/")
	for _, test := range []struct {
		host, path string
		status     int
	}{
		{"example.com", "/grow/x", 508},
		{"example.com", "/home", 302}, // a longer route takes what it leads to
		{"example.com", "/a", 508},
		{"example.com", "/b", 508},
		{"example.com", "/once", 302},
		{"www.example.com", "/once", 508},
		{"www.example.com:80", "/once", 508},
		{"www.example.com:81", "/once", 302},
		{"example.com", "/tls", 302},
		{"example.com", "/down", 302},
	} {
		request, _ := http.NewRequest(http.MethodGet, l.url+test.path, nil)
		request.Host = test.host
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != test.status || (response.Header.Get("Location") == "") == (test.status == 302) {
			t.Errorf("%s%s: %d to %q, want %d", test.host, test.path, response.StatusCode, response.Header.Get("Location"), test.status)
		}
	}
}

func TestARedirectToHTTPSEndsBehindAProxyThatSpeaksIt(t *testing.T) {
	trusted, _ := acl.ParseNetworks("127.0.0.0/8")
	elsewhere, _ := acl.ParseNetworks("192.0.2.1")
	for _, test := range []struct {
		trusted acl.Networks
		proto   string
		status  int
		body    string
	}{
		{trusted, "http", 301, ""},
		{trusted, "https", 200, "here"},
		{trusted, "", 301, ""},
		{elsewhere, "https", 301, ""}, // anybody may say so
	} {
		world := meshtest.New(t)
		world.Policy.Set(allowWeb)
		world.Serve("web", "a", http.HandlerFunc(hello), "urlprefix-/ redirect=301,https://$host$path")
		world.Serve("web", "b", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("here")) }), "urlprefix-/")
		l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Trusted: test.trusted})
		request, _ := http.NewRequest(http.MethodGet, l.url+"/", nil)
		if test.proto != "" {
			request.Header.Set("X-Forwarded-Proto", test.proto)
		}
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		got := new(strings.Builder)
		_ = response.Write(got)
		if response.StatusCode != test.status || !strings.Contains(got.String(), test.body) {
			t.Errorf("over %q: %d, want %d %s", test.proto, response.StatusCode, test.status, test.body)
		}
	}
}
