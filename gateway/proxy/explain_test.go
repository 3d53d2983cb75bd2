package proxy_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"sluice/gateway/balance"
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

func TestAnExplanationSaysOfEachInstanceWhetherItMayBePickedAndWhyNot(t *testing.T) {
	world := meshtest.New(t)
	world.Policy.Set(allowWeb, meshtest.Allow("gateway", "other"), meshtest.Deny("gateway", "denied"))
	const tag = "urlprefix-/web"
	serve(world, "web", "good", hello, tag)
	drained := serve(world, "web", "drained", hello, tag)
	world.Catalog.Add(world.Instance("web", "down", refusing(t), tag))
	serve(world, "denied", "denied", hello, tag)
	somebody := serve(world, "other", "other", hello)
	world.Catalog.Add(world.Instance("web", "wrong", somebody.Address, tag))
	l := with(t, world, proxy.Config{
		Dialer: world.Dialer("gateway", nil), Policy: world.Policy, Strategy: "rr", SlowStart: -1, Ejection: balance.Ejection{Local: 1},
		Absent: func(_ context.Context, service string) ([]proxy.Absent, error) {
			if service == "denied" {
				return nil, errors.New("Consul is away")
			}
			return []proxy.Absent{{Service: service, Instance: "web-sick", Node: "sick", Why: `check "up" is critical: no`}}, nil
		},
	})
	meshtest.Wait(t, "all are there", func() bool { return len(l.Table().Routes()[0].Instances) == 5 })
	if _, err := l.Drain("web", drained.ServiceID, "", true); err != nil {
		t.Fatal(err)
	}
	why := map[string]string{}
	meshtest.Wait(t, "one is ejected, and another's impostor is known", func() bool {
		l.get("/web")
		e, err := l.Explain(t.Context(), proxy.Question{URL: "/web"})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range e.Instances {
			why[i.Node] = i.Why + "; " + i.Verdict
		}
		for _, a := range e.Absent {
			why[a.Node] = a.Why
		}
		return strings.HasPrefix(why["down"], "it is ejected") && strings.Contains(why["wrong"], "/svc/other")
	})
	if !regexp.MustCompile(`^it is ejected, until \d\d:\d\d:\d\d UTC; `).MatchString(why["down"]) {
		t.Errorf("of one that is ejected it says %q", why["down"])
	}
	for node, want := range map[string]string{
		"good": "eligible; ", "drained": "it is draining; ", "denied": "denied by intention gateway -> denied",
		"wrong": "/svc/other", "sick": `check "up" is critical: no`, "": "not known: Consul is away",
	} {
		if !strings.Contains(why[node], want) {
			t.Errorf("of the instance on %q it says %q, want %q", node, why[node], want)
		}
	}
}
