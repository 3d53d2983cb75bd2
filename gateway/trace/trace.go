// Package trace sends spans of requests to an OpenTelemetry collector: a server
// span for each request, and a client span for each try at an instance.
//
// Names of attributes are those of the semantic conventions for HTTP.
package trace

import (
	"context"
	"net"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"sluice/gateway/proxy"
	"sluice/internal/service/tracing"
)

// Tracer is a proxy.Tracer. It is safe for concurrent use.
type Tracer struct {
	*tracing.Provider
}

// Begin implements proxy.Tracer.
func (t *Tracer) Begin(parent string, r proxy.Traced) proxy.Span {
	ctx, s := t.Provider.Tracer().Start(t.Extract(context.Background(), parent), r.Method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
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
	ctx, try := s.tracer.Provider.Tracer().Start(s.ctx, s.method, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", s.method), attribute.String("sluice.service", service), attribute.String("sluice.instance", instance),
	))
	if host, port, err := net.SplitHostPort(address); err == nil {
		number, _ := strconv.Atoi(port)
		try.SetAttributes(attribute.String("server.address", host), attribute.Int("server.port", number))
	}
	return s.tracer.Inject(ctx), func(status int, err error) { finish(try, status, err, status >= 400) }
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
