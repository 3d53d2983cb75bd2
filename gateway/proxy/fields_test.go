package proxy_test

import (
	"fmt"
	"net/http"
	"testing"

	"sluice/gateway/h1"
	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

func TestTheNumberOfFieldsIsBoundedWhateverTheVersionOfHTTP(t *testing.T) {
	const most = 8
	world := meshtest.New(t)
	world.Policy.Set(allowWeb)
	serve(world, "web", "web-1", hello, "urlprefix-/web")
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, MaxFields: most})
	if !withStd() {
		l.impatient(t, proxy.OwnConfig{Limits: h1.Limits{Fields: most}}, nil)
	}
	clear := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	clear.Protocols.SetUnencryptedHTTP2(true)
	defer clear.CloseIdleConnections()
	for version, client := range map[string]struct {
		*http.Client
		url string
	}{
		"HTTP/1.1": {&http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}, l.url},
		"HTTP/2.0": {&http.Client{Transport: clear}, "http://" + listenHTTP2(t, l)},
	} {
		for _, c := range []struct{ fields, want int }{{3, 200}, {6, 200}, {7, 431}, {100, 431}} {
			request, err := http.NewRequest(http.MethodGet, client.url+"/web", nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("User-Agent", "") // none; Host is one of them
			if version == "HTTP/1.1" {
				c.fields-- // beside Connection: close
			}
			for i := range c.fields + 1 {
				request.Header.Add("X-Many", fmt.Sprint(i))
			}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != c.want || response.Proto != version {
				t.Errorf("%s, %d fields: %s %d, want %d", version, c.fields, response.Proto, response.StatusCode, c.want)
			}
		}
	}
}
