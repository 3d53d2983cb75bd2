package trace

import (
	"errors"
	"strings"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"sluice/gateway/proxy"
	"sluice/internal/service/tracing"
)

func TestEachTryIsAChildOfTheRequestAndTheInstanceLearnsItsNumber(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	provider, err := tracing.New(t.Context(), tracing.Config{Service: "gateway", Version: "v1", Node: "gateway-1"}, sdk.NewSimpleSpanProcessor(exporter))
	if err != nil {
		t.Fatal(err)
	}
	tracer := &Tracer{provider}
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
