package trace

import (
	"errors"
	"strings"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"sluice/gateway/proxy"
)

func TestEachTryIsAChildOfTheRequestAndTheInstanceLearnsItsNumber(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tracer, err := with(t.Context(), sdk.NewSimpleSpanProcessor(exporter), "gateway", "v1", "gateway-1")
	if err != nil {
		t.Fatal(err)
	}
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	request := tracer.Begin(parent, proxy.Traced{ID: "ID", Method: "GET", Path: "/a", Host: "h"})
	first, end := request.Try("web", "web-1", "10.0.0.1:80")
	end(0, errors.New("refused"))
	second, end := request.Try("web", "web-2", "10.0.0.2:80")
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
	if spans[0].Status.Code.String() != "Error" || spans[1].Status.Code.String() != "Unset" {
		t.Errorf("states: %v, %v", spans[0].Status, spans[1].Status)
	}
}

func TestNobodyTracesUnlessTheEnvironmentAsks(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string
		want bool
	}{
		"nothing":     {nil, false},
		"an endpoint": {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, true},
		"of traces":   {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, true},
		"disabled":    {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, false},
		"no exporter": {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, false},
	} {
		if got := Wanted(func(name string) string { return c.env[name] }); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
