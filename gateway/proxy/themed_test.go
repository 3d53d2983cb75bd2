package proxy_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/gateway/errorpages"
	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

// themedPages are templates for 403 and 503. The latter fails for whatever it was not
// tried with.
func themedPages(t *testing.T) *errorpages.Pages {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"403.html": `<h1>ours {{.Status}}</h1>{{.Reason}}{{range .Facts}} {{.Name}}={{.Value}}{{end}} {{.Command}} {{.RequestID}}`,
		"503.html": `<h1>ours</h1>{{if and .RequestID (ne .RequestID "0123456789abcdef0123456789abcdef")}}{{index .Facts 99}}{{end}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pages, err := errorpages.Open(errorpages.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

func TestBrowsersGetTheOperatorsPagesAndOthersWhatTheyAlwaysGot(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Deny("gateway", "web"))
	instance := serve(world, "web", "web-1", echo, "urlprefix-/web", "urlprefix-/old redirect=301,https://new.example/")
	pages := themedPages(t)
	l := with(t, world, proxy.Config{Dialer: world.Dialer("gateway", nil), Policy: world.Policy, ErrorPages: pages})
	l.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

	got := l.get("/web", "Accept", "text/html,*/*;q=0.8")
	id := got.header.Get("X-Request-Id")
	for _, want := range []string{"<h1>ours 403</h1>", "source=gateway", "destination=web", "sluice intentions allow gateway web", id} {
		if got.status != 403 || !strings.Contains(got.body, want) {
			t.Errorf("%d %q, want %q", got.status, got.body, want)
		}
	}
	if policy := got.header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "script") {
		t.Errorf("the policy is %q, want one without scripts", policy)
	}
	if kind := got.header.Get("Content-Type"); kind != "text/html; charset=utf-8" || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("the head is %v", got.header)
	}
	if head := l.do(http.MethodHead, "/web", "", "Accept", "text/html"); head.status != 403 || head.body != "" {
		t.Errorf("HEAD: %d %q", head.status, head.body)
	}
	for path, c := range map[string]struct {
		accept string
		status int
		want   string
	}{
		"/web?1": {"application/json", 403, `"title":"Denied"`},
		"/web?2": {"*/*", 403, "403 Denied\n"},
		"/none":  {"text/html", 404, "<title>404 No route</title>"},
		"/old":   {"text/html", 301, "<title>301 Elsewhere</title>"},
	} {
		if got := l.get(path, "Accept", c.accept); got.status != c.status || !strings.Contains(got.body, c.want) || strings.Contains(got.body, "ours") {
			t.Errorf("%s as %s: %d %q, want the gateway's own %q", path, c.accept, got.status, got.body, c.want)
		}
	}

	world.Catalog.Remove(instance)
	meshtest.Wait(t, "the instance is gone", func() bool { return l.get("/web").status == 503 })
	if got := l.get("/web", "Accept", "text/html"); !strings.Contains(got.body, "<title>503 No healthy instance</title>") || strings.Contains(got.body, "ours") {
		t.Errorf("a page that fails: %q, want the gateway's own", got.body)
	}
	if n := pages.State().Failed; n != 1 {
		t.Errorf("%d pages failed, want 1", n)
	}
}
