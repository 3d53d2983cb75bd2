package trace

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"sluice/gateway/proxy"
	"sluice/internal/service/tracing"
	"sluice/mesh"
)

func TestEachTryIsAChildOfTheRequestAndTheInstanceLearnsItsNumber(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	provider, err := tracing.New(t.Context(), tracing.Config{Service: "gateway", Version: "v1", Node: "gateway-1"}, sdk.NewSimpleSpanProcessor(exporter))
	if err != nil {
		t.Fatal(err)
	}
	tracer := &Tracer{provider}
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	request := tracer.Begin(parent, proxy.Traced{ID: "ID", Method: "GET", Path: "/a", Host: "h:8080"})
	first, end := request.Try(proxy.Tried{Service: "web", Instance: "web-1", Address: "10.0.0.1:80", URL: "https://10.0.0.1:80/a?x=1"})
	end(0, errors.New("refused"))
	second, end := request.Try(proxy.Tried{Service: "web", Instance: "web-2", Address: "10.0.0.2:80", URL: "https://10.0.0.2:80/a?x=1"})
	end(200, nil)
	request.End(200, "/a", nil)

	spans := exporter.GetSpans()
	if len(spans) != 3 {
		t.Fatalf("%d spans", len(spans))
	}
	server := spans[2]
	if server.SpanKind != trace.SpanKindServer || server.Name != "GET /a" || server.Parent.SpanID().String() != "b7ad6b7169203331" {
		t.Errorf("server span: %+v", server)
	}
	for i, traceparent := range []string{first, second} {
		s := spans[i]
		if s.SpanKind != trace.SpanKindClient || s.Parent.SpanID() != server.SpanContext.SpanID() ||
			!strings.HasPrefix(traceparent, "00-0af7651916cd43dd8448eb211c80319c-"+s.SpanContext.SpanID().String()) {
			t.Errorf("try %d: %q, %+v", i, traceparent, s)
		}
	}
	for i, want := range []map[string]string{
		{"server.address": "10.0.0.1", "server.port": "80", "http.request.method": "GET", "url.full": "https://10.0.0.1:80/a?x=1", "error.type": "_OTHER", "http.request.resend_count": "", "sluice.instance": "web-1"},
		{"server.address": "10.0.0.2", "error.type": "", "http.request.resend_count": "1", "http.response.status_code": "200"},
		{"server.address": "h", "server.port": "8080", "url.path": "/a", "url.full": "", "http.route": "/a", "http.response.status_code": "200", "error.type": ""},
	} {
		has(t, spans[i], want)
	}
	if spans[0].Status.Code.String() != "Error" || spans[1].Status.Code.String() != "Unset" {
		t.Errorf("states: %v, %v", spans[0].Status, spans[1].Status)
	}
}

// has wants attributes of a span; "" is that there is none.
func has(t *testing.T, s tracetest.SpanStub, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for _, a := range s.Attributes {
		got[string(a.Key)] = a.Value.Emit()
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("span %s: %s is %q, want %q", s.Name, name, got[name], value)
		}
	}
}

// TestTheAddressOfAServerIsWithoutThePort has what a client may send as Host.
func TestTheAddressOfAServerIsWithoutThePort(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	provider, err := tracing.New(t.Context(), tracing.Config{Service: "gateway"}, sdk.NewSimpleSpanProcessor(exporter))
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string][2]string{
		"h": {"h", ""}, "h:80": {"h", "80"}, "[2001:db8::1]": {"2001:db8::1", ""}, "[2001:db8::1]:443": {"2001:db8::1", "443"}, "": {"", ""},
	} {
		exporter.Reset()
		(&Tracer{provider}).Begin("", proxy.Traced{Method: "GET", Host: host}).End(200, "", nil)
		has(t, exporter.GetSpans()[0], map[string]string{"server.address": want[0], "server.port": want[1]})
	}
}

func TestFewWordsNameMethodsAndErrorsHoweverManyThereAre(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	provider, err := tracing.New(t.Context(), tracing.Config{Service: "gateway"}, sdk.NewSimpleSpanProcessor(exporter))
	if err != nil {
		t.Fatal(err)
	}
	tracer := &Tracer{provider}
	for _, c := range []struct {
		method, name, called, fault string
		status                      int
		err                         error
	}{
		{"PUT", "PUT /a", "PUT", "", 200, nil},
		{"MADE-UP", "HTTP /a", "_OTHER", "", 404, nil},
		{"GET", "GET /a", "GET", "502", 502, nil},
		{"GET", "GET /a", "GET", "denied", 403, fmt.Errorf("x: %w", mesh.ErrDenied)},
		{"GET", "GET /a", "GET", "timeout", 504, os.ErrDeadlineExceeded},
	} {
		exporter.Reset()
		tracer.Begin("", proxy.Traced{Method: c.method, Host: "[2001:db8::1]:443"}).End(c.status, "/a", c.err)
		s := exporter.GetSpans()[0]
		if s.Name != c.name {
			t.Errorf("%s: the span is %s, want %s", c.method, s.Name, c.name)
		}
		has(t, s, map[string]string{"http.request.method": c.called, "error.type": c.fault, "server.address": "2001:db8::1", "server.port": "443"})
	}
}
