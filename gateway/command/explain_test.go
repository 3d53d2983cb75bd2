package command_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"sluice/gateway/command"
)

// explained returns what the command prints of an answer of a gateway, and what it asked.
func explained(t *testing.T, answer string, args ...string) (text string, question url.Values, err error) {
	t.Helper()
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		question = r.URL.Query()
		if answer == "" {
			http.Error(w, "no such request among the last 1024", http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(answer))
	}))
	defer gateway.Close()
	var out strings.Builder
	err = command.Run(t.Context(), command.Streams{Out: &out, Err: t.Output()}, append([]string{"explain", "-admin", gateway.URL}, args...))
	return out.String(), question, err
}

// said wants each of these in a text, in this order.
func said(t *testing.T, text string, wanted ...string) {
	t.Helper()
	rest := text
	for _, want := range wanted {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Fatalf("without %q, or not in this order:\n%s", want, text)
		}
		rest = after
	}
}

func TestAnExplanationIsPrintedWithEveryInstanceAndTheReason(t *testing.T) {
	const answer = `{"verdict": "One of 2 instances answers.", "method": "POST", "host": "shop.test", "path": "/cart", "client": "192.0.2.7",
		"route": "shop.test/cart", "options": "strip=/cart", "strategy": "p2c", "timeout_ns": 30000000000, "attempts": 3, "budget_left": 100,
		"lookup": {"hosts": [{"host": "shop.test", "reason": "it is the name", "paths": [{"host": "shop.test", "path": "/cart", "match": "segment", "reason": "the path fits", "taken": true}]}]},
		"instances": [{"service": "shop", "instance": "shop-1", "node": "n1", "datacenter": "dc1", "share": 0.25, "in_flight": 3, "verdict": "allowed by shop", "why": "eligible"}],
		"absent": [{"service": "shop", "instance": "shop-2", "node": "n2", "why": "check \"up\" is critical:\nno"}],
		"datacenters_not_followed": ["dc9"], "panic": true, "ignored_tags": [{"service": "shop", "node": "n3", "tag": "urlprefix-/x y", "reason": "unknown"}]}`
	text, question, err := explained(t, answer, "-method", "POST", "-client", "192.0.2.7", "http://shop.test/cart")
	if err != nil || question.Get("url") != "http://shop.test/cart" || question.Get("method") != "POST" || question.Get("client") != "192.0.2.7" {
		t.Errorf("%v, asked %v", err, question)
	}
	said(t, text, "One of 2 instances answers.", "POST shop.test/cart", "192.0.2.7", "strip=/cart", "p2c", "30s", "at most 3; the budget has 100", "too few others are left",
		"host shop.test: it is the name", "> shop.test/cart match=segment: the path fits", "shop-1", "n1", "dc1", "25 %", "3", "allowed by shop", "eligible",
		"shop-2", "n2", `unhealthy: check "up" is critical: no`, "dc9: other datacenter, not followed", "shop on n3: urlprefix-/x y: unknown")
}

func TestAnExplanationOfARefusalIsNo(t *testing.T) {
	for _, args := range [][]string{{"/a"}, {"-o", "json", "/a"}} {
		text, _, err := explained(t, `{"verdict": "No route takes it.", "status": 404, "lookup": {"hosts": []}}`, args...)
		if err == nil || err.Error() != "" || !strings.Contains(text, "No route takes it.") {
			t.Errorf("%q: %v, %q", args, err, text)
		}
	}
}

func TestARecentRequestIsPrintedTryByTry(t *testing.T) {
	const id = "4FZ2K7QWMBN3XHYAAAAAAAAAAC"
	const answer = `{"method": "GET", "host": "shop.test", "path": "/", "client": "192.0.2.7", "status": 502, "took_ns": 5000000, "route": "shop.test/", "flags": "UF,URX",
		"error": "it refused the connection", "attempts": [
		{"service": "shop", "instance": "shop-1", "node": "n1", "address": "192.0.2.1:80", "outcome": "local failure", "took_ns": 1000000, "error": "refused", "then": "tried elsewhere"},
		{"service": "shop", "instance": "shop-2", "node": "n2", "address": "192.0.2.2:80", "outcome": "canceled", "took_ns": 2000000, "hedge": true, "serial": "7f"}]}`
	text, question, err := explained(t, answer, id)
	if err != nil || question.Get("id") != id {
		t.Errorf("%v, asked %v", err, question)
	}
	said(t, text, "GET shop.test/ from 192.0.2.7", "502 after 5ms", "route shop.test/", "flags UF,URX",
		"try 1", "shop-1 on n1 (192.0.2.1:80), local failure in 1ms: refused; then: tried elsewhere",
		"hedge 2", "shop-2 on n2 (192.0.2.2:80), canceled in 2ms with leaf 7f", "error: it refused the connection")
	if _, _, err := explained(t, "", id); err == nil || err.Error() != "no such request among the last 1024" {
		t.Errorf("one that is not known: %v", err)
	}
}
