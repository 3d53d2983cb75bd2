package main

import (
	"bytes"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	// gatewayTrace and gatewaySpan are those of the header that the gateway sends.
	gatewayTrace = "0af7651916cd43dd8448eb211c80319c"
	gatewaySpan  = "b7ad6b7169203331"
)

// spans is an OpenTelemetry collector that keeps what it is sent.
type spans struct {
	mu   sync.Mutex
	raw  bytes.Buffer
	all  []*otlp.Span
	from []string // service.name of each delivery
}

// collect starts a collector and points the processes that are started later to it.
func collect(t *testing.T) *spans {
	t.Helper()
	s := &spans{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var sent collector.ExportTraceServiceRequest
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
			http.Error(w, "no OTLP", http.StatusBadRequest)
			return
		}
		s.keep(body, &sent)
	}))
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
	return s
}

func (s *spans) keep(body []byte, sent *collector.ExportTraceServiceRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw.Write(body)
	for _, of := range sent.GetResourceSpans() {
		for _, attribute := range of.GetResource().GetAttributes() {
			if attribute.GetKey() == "service.name" {
				s.from = append(s.from, attribute.GetValue().GetStringValue())
			}
		}
		for _, scope := range of.GetScopeSpans() {
			s.all = append(s.all, scope.GetSpans()...)
		}
	}
}

// tell holds what was sent to what is promised: the request joins the gateway's trace,
// each command is its child, and nothing of what was read or written is told.
func (s *spans) tell(t *testing.T, secrets ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var request *otlp.Span
	for _, span := range s.all {
		if hex.EncodeToString(span.GetParentSpanId()) == gatewaySpan {
			request = span
		}
	}
	if request == nil || hex.EncodeToString(request.GetTraceId()) != gatewayTrace || request.GetName() != "POST /web/entries" || request.GetKind() != otlp.Span_SPAN_KIND_SERVER {
		t.Fatalf("no server span below the gateway's: %v", request)
	}
	if !bytes.Contains(s.raw.Bytes(), []byte("/web/a;token=***")) {
		t.Error("no span has the path whose parameter is secret")
	}
	commands := map[string]int{}
	for _, span := range s.all {
		if span.GetKind() != otlp.Span_SPAN_KIND_CLIENT {
			continue
		}
		if len(span.GetParentSpanId()) == 0 {
			t.Errorf("%s is nobody's", span.GetName())
		}
		if bytes.Equal(span.GetParentSpanId(), request.GetSpanId()) {
			commands[span.GetName()]++
		}
	}
	// The first entry makes its index, too.
	if commands["insert entries"] != 1 || commands["hello"] != 0 || len(commands) > 2 {
		t.Errorf("commands of the request: %v", commands)
	}
	for _, from := range s.from {
		if from != "web" {
			t.Errorf("from %q", from)
		}
	}
	for _, secret := range secrets {
		if strings.Contains(s.raw.String(), secret) {
			t.Errorf("a span tells %q", secret)
		}
	}
}
