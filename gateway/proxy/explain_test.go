package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"sluice/gateway/proxy"
	"sluice/internal/meshtest"
)

func TestAnExplanationCountsNoRequestAndIsForTheClientThatWasAskedFor(t *testing.T) {
	l := tags(t, echo, proxy.Config{Auth: staff(t)}, "urlprefix-/staff auth=staff", "urlprefix-/local allow=ip:127.0.0.1")
	explain := func(path, client string) (int, string) {
		recorder := httptest.NewRecorder()
		query := url.Values{"url": {path}, "client": {client}}
		l.ExplainHandler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/explain?"+query.Encode(), nil))
		return recorder.Code, recorder.Body.String()
	}
	if status, body := explain("/staff", ""); status != 200 || !strings.Contains(body, `"status": 401`) {
		t.Fatalf("%d %s", status, body)
	}
	if n := l.metric(t, "sluice_gateway_unauthorized_total"); n != 0 {
		t.Errorf("an explanation is counted as %v requests without credentials", n)
	}
	if got := l.get("/staff"); got.status != 401 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	meshtest.Wait(t, "one request without credentials is counted", func() bool { return l.metric(t, "sluice_gateway_unauthorized_total") == 1 })
	for client, want := range map[string]string{"": "The only eligible instance", "127.0.0.1": "The only eligible instance", " 10.0.0.3 ": "10.0.0.3"} {
		if status, body := explain("/local", client); status != 200 || !strings.Contains(body, want) {
			t.Errorf("client %q: %d %s, want %q", client, status, body, want)
		}
	}
	for _, client := range []string{"10.0.0.300", "10.0.0.3:80", "localhost"} {
		if status, body := explain("/local", client); status != 400 || !strings.Contains(body, "client=") {
			t.Errorf("client %q: %d %s, want 400: another client's answer would be believed", client, status, body)
		}
	}
}
