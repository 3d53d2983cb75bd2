package tracing

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestACollectorThatIsAwayIsOneLineInAMinute(t *testing.T) {
	var log bytes.Buffer
	now := time.Unix(0, 0)
	r := &reporter{logger: slog.New(slog.NewJSONHandler(&log, nil)), now: func() time.Time { return now }}
	for range 150 { // one a second
		r.Handle(errors.New("connection refused"))
		now = now.Add(time.Second)
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], `"withheld":0`) || !strings.Contains(lines[2], `"err":"connection refused","withheld":59`) {
		t.Errorf("%d lines:\n%s", len(lines), log.String())
	}
}

// What is wrong in the environment costs the description, not the process.
func TestBadAttributesInTheEnvironmentAreToldAndTracesGoOn(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "no-pair")
	var log bytes.Buffer
	sent := tracetest.NewInMemoryExporter()
	p, err := New(t.Context(), Config{Service: "web", Node: "web-1", Scope: "x", Logger: slog.New(slog.NewJSONHandler(&log, nil))}, sdk.NewSimpleSpanProcessor(sent))
	if err != nil {
		t.Fatal(err)
	}
	_, span := p.Tracer().Start(t.Context(), "one")
	span.End()
	if spans := sent.GetSpans(); len(spans) != 1 || !strings.Contains(spans[0].Resource.String(), "service.name=web") {
		t.Errorf("spans %+v", spans)
	}
	if !strings.Contains(log.String(), "attributes") {
		t.Errorf("nothing is told: %s", log.String())
	}
}
