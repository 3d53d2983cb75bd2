package proxy_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

// spans keeps what a tracing system would be told.
type spans struct {
	mu   sync.Mutex
	text string
}

func (s *spans) Begin(_ string, r proxy.Traced) proxy.Span {
	s.note(r)
	return s
}

func (s *spans) Try(tried proxy.Tried) (string, func(int, error)) {
	s.note(tried)
	return "", func(_ int, err error) { s.note(err) }
}

func (s *spans) End(_ int, route string, err error) { s.note(route, err) }

// String is what was noted. A request may end a moment after its answer.
func (s *spans) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}

func (s *spans) note(what ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text += fmt.Sprintf("%+v\n", what)
}

func TestSecretsOfRequestsAreShownNowhere(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(meshtest.Allow("gateway", "web"), meshtest.Deny("gateway", "api"))
	serve(world, "web", "web-1", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"urlprefix-/web", "urlprefix-/moved redirect=302,https://new.example$path", "urlprefix-/round redirect=302,/roundabout$path")
	serve(world, "api", "api-1", echo, "urlprefix-/api")
	var log lines
	var traced spans
	l := with(t, world, proxy.Config{
		Dialer: world.Dialer("gateway", nil), Policy: world.Policy, ExplainErrors: true, Timeout: short, Tracer: &traced, Secrets: []string{"token", "pin"},
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	l.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	shown := map[string]string{}
	for _, base := range []string{"/web", "/api", "/none", "/moved", "/round", "/web//x", "/web/../x"} {
		for _, secret := range []string{"?token=HIDDEN", "/a;pin=HIDDEN/b", "/a%3Ftoken=HIDDEN", "/a%3bpin%3dHIDDEN?x=1&%74oken=HIDDEN"} {
			for _, accept := range []string{"text/html", "application/json", "*/*"} {
				request := "GET " + base + secret + " HTTP/1.1\r\nHost: x\r\nAccept: " + accept + "\r\nConnection: close\r\n\r\n"
				head, body, _ := strings.Cut(l.raw(t, request), "\r\n\r\n")
				if !strings.HasPrefix(head, "HTTP/1.1 ") {
					t.Fatalf("%q: no answer: %q", request, head)
				}
				shown["page "+request] = body
			}
			explained, err := l.Explain(t.Context(), proxy.Question{URL: base + secret})
			text, _ := json.Marshal(explained)
			shown["explain "+base+secret] = fmt.Sprint(string(text), err)
		}
	}
	if _, err := l.Explain(t.Context(), proxy.Question{URL: "http://x/%zz?token=HIDDEN"}); err == nil {
		t.Error("a URL that is none is explained")
	} else {
		shown["explain nothing"] = err.Error()
	}
	for name, handler := range map[string]http.Handler{
		"recent": l.RecentHandler(), "page": l.Admin(proxy.AdminConfig{}).Index(), "parts": l.Admin(proxy.AdminConfig{}).Parts(),
	} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
		shown[name] = answer.Body.String()
	}
	id := l.Recent(1)[0].ID
	answer := httptest.NewRecorder()
	l.ExplainHandler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/?id="+url.QueryEscape(id), nil))
	shown["explain ID"] = answer.Body.String()
	shown["log"], shown["spans"] = log.String(), traced.String()
	for where, text := range shown {
		if strings.Contains(text, "HIDDEN") {
			t.Errorf("%s shows a secret: %.2000s", where, text)
		}
	}
	for _, where := range []string{"log", "spans", "recent", "page", "explain ID"} {
		if !strings.Contains(shown[where], "***") {
			t.Errorf("%s shows nothing at all: %.500s", where, shown[where])
		}
	}
}

func TestARedirectStillLeadsToWhereItsSecretIsGood(t *testing.T) {
	l := tags(t, echo, proxy.Config{}, "urlprefix-/moved redirect=302,https://new.example$path")
	l.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := l.client.Get(l.url + "/moved?token=HIDDEN")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if got := response.Header.Get("Location"); got != "https://new.example/moved?token=HIDDEN" || strings.Contains(string(body), "HIDDEN") {
		t.Errorf("Location %q, and the page %q", got, body)
	}
}
