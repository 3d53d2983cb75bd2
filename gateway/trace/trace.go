// Package trace sends spans of requests to an OpenTelemetry collector: a server
// span for each request, and a client span for each try at an instance.
//
// Names of attributes are those of the semantic conventions for HTTP.
package trace

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"sluice/gateway/proxy"
	"sluice/internal/service/tracing"
	"sluice/mesh"
)

// Tracer is a proxy.Tracer. It is safe for concurrent use.
type Tracer struct {
	*tracing.Provider
}

// Begin implements proxy.Tracer.
func (t *Tracer) Begin(parent string, r proxy.Traced) proxy.Span {
	s := &span{tracer: t, method: methodOf(r.Method), name: methodOf(r.Method)}
	attributes := []attribute.KeyValue{
		attribute.String("http.request.method", s.method), attribute.String("url.scheme", r.Scheme), attribute.String("url.path", r.Path),
		attribute.String("client.address", r.Client), attribute.String("sluice.request_id", r.ID),
	}
	if s.method == otherMethod {
		s.name = "HTTP"
		attributes = append(attributes, attribute.String("http.request.method_original", r.Method))
	}
	attributes = append(attributes, serverOf(r.Host)...)
	s.ctx, s.span = t.Provider.Tracer().Start(t.Extract(context.Background(), parent), s.name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attributes...))
	return s
}

// otherMethod stands for methods that are nobody's: a client may make up as many as
// it likes.
const otherMethod = "_OTHER"

func methodOf(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT":
		return method
	}
	return otherMethod
}

// serverOf are the attributes of an address or a Host, with or without a port.
func serverOf(address string) []attribute.KeyValue {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return []attribute.KeyValue{attribute.String("server.address", strings.Trim(address, "[]"))} // an IPv6 address alone
	}
	attributes := []attribute.KeyValue{attribute.String("server.address", host)}
	if number, err := strconv.Atoi(port); err == nil {
		attributes = append(attributes, attribute.Int("server.port", number))
	}
	return attributes
}

type span struct {
	tracer *Tracer
	ctx    context.Context //nolint:containedctx // it is the span: what follows is its child
	span   trace.Span
	// method is that of the request, and name what spans are called by it.
	method, name string
	// tries counts those that have begun.
	tries atomic.Int64
}

// Try implements proxy.Span.
func (s *span) Try(t proxy.Tried) (string, func(int, error)) {
	attributes := append(serverOf(t.Address), attribute.String("url.full", t.URL),
		attribute.String("http.request.method", s.method), attribute.String("sluice.service", t.Service), attribute.String("sluice.instance", t.Instance))
	if again := s.tries.Add(1) - 1; again > 0 {
		attributes = append(attributes, attribute.Int64("http.request.resend_count", again))
	}
	ctx, try := s.tracer.Provider.Tracer().Start(s.ctx, s.name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	return s.tracer.Inject(ctx), func(status int, err error) { finish(try, status, err, status >= 400) }
}

// End implements proxy.Span.
func (s *span) End(status int, route string, err error) {
	if route != "" {
		s.span.SetAttributes(attribute.String("http.route", route))
		s.span.SetName(s.name + " " + route)
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
		s.SetAttributes(attribute.String("error.type", typeOf(err)))
	case failed:
		s.SetStatus(codes.Error, strconv.Itoa(status))
		s.SetAttributes(attribute.String("error.type", strconv.Itoa(status)))
	}
	s.End()
}

// typeOf is one of a few words for an error.
func typeOf(err error) string {
	switch {
	case errors.Is(err, mesh.ErrDenied):
		return "denied"
	case errors.Is(err, mesh.ErrWrongIdentity):
		return "wrong_identity"
	case errors.Is(err, mesh.ErrNotReady):
		return "identity_not_ready"
	case errors.Is(err, mesh.ErrNoInstance):
		return "no_instance"
	case proxy.IsTimeout(err):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "_OTHER"
}
