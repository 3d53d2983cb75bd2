// Package trace sends spans of requests to an OpenTelemetry collector: a server
// span for each request, and a client span for each try at an instance.
//
// It is on only where the standard environment variables ask for it
// (OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, and not
// OTEL_SDK_DISABLED), and goes by the others of the specification, such as
// OTEL_TRACES_SAMPLER and OTEL_SERVICE_NAME. Names of attributes are those of the
// semantic conventions for HTTP.
package trace

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"sluice/gateway/proxy"
)

// flushTime bounds the last delivery at a stop.
const flushTime = 2 * time.Second

// Tracer is a proxy.Tracer. It is safe for concurrent use.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	context  propagation.TraceContext
}

// Wanted reports whether the environment asks for traces.
func Wanted(getenv func(string) string) bool {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// New returns a Tracer that exports over OTLP/HTTP, by the environment.
func New(ctx context.Context, service, version, node string) (*Tracer, error) {
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	return with(ctx, sdk.NewBatchSpanProcessor(exporter), service, version, node)
}

func with(ctx context.Context, processor sdk.SpanProcessor, service, version, node string) (*Tracer, error) {
	described, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", service), attribute.String("service.version", version), attribute.String("host.name", node),
	), resource.WithFromEnv()) // what the environment says wins
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(processor), sdk.WithResource(described))
	return &Tracer{provider: provider, tracer: provider.Tracer("sluice/gateway")}, nil
}

// Run keeps the exporter until ctx ends, and then delivers what is left.
func (t *Tracer) Run(ctx context.Context) error {
	<-ctx.Done()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
	defer cancel()
	_ = t.provider.Shutdown(last) // a collector that is away costs its spans, not the stop
	return nil
}

// Begin implements proxy.Tracer.
func (t *Tracer) Begin(parent string, r proxy.Traced) proxy.Span {
	ctx := context.Background()
	if parent != "" {
		ctx = t.context.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
	}
	ctx, s := t.tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", r.Method), attribute.String("url.scheme", r.Scheme), attribute.String("url.path", r.Path),
		attribute.String("server.address", r.Host), attribute.String("client.address", r.Client), attribute.String("sluice.request_id", r.ID),
	))
	return &span{tracer: t, ctx: ctx, span: s, method: r.Method}
}

type span struct {
	tracer *Tracer
	ctx    context.Context //nolint:containedctx // it is the span: what follows is its child
	span   trace.Span
	method string
}

// Try implements proxy.Span.
func (s *span) Try(service, instance, address string) (string, func(int, error)) {
	ctx, try := s.tracer.tracer.Start(s.ctx, s.method, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", s.method), attribute.String("sluice.service", service), attribute.String("sluice.instance", instance),
	))
	if host, port, err := net.SplitHostPort(address); err == nil {
		number, _ := strconv.Atoi(port)
		try.SetAttributes(attribute.String("server.address", host), attribute.Int("server.port", number))
	}
	carrier := propagation.MapCarrier{}
	s.tracer.context.Inject(ctx, carrier)
	return carrier["traceparent"], func(status int, err error) { finish(try, status, err, status >= 400) }
}

// End implements proxy.Span.
func (s *span) End(status int, route string, err error) {
	if route != "" {
		s.span.SetAttributes(attribute.String("http.route", route))
		s.span.SetName(s.method + " " + route)
	}
	finish(s.span, status, err, status >= 500) // 4xx is the client's
}

func finish(s trace.Span, status int, err error, failed bool) {
	if status > 0 {
		s.SetAttributes(attribute.Int("http.response.status_code", status))
	}
	switch {
	case err != nil:
		s.RecordError(err)
		s.SetStatus(codes.Error, err.Error())
	case failed:
		s.SetStatus(codes.Error, strconv.Itoa(status))
	}
	s.End()
}
