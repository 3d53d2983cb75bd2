// Package trace sends spans of requests and of what they ask the database: a server
// span for each request, which joins the trace that the gateway has begun, and below
// it a client span for each command to MongoDB. What is in a command is in no span.
//
// Names of attributes are those of the semantic conventions for HTTP and for
// databases.
package trace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"sluice/internal/service/mask"
	"sluice/internal/service/tracing"
)

// Tracer makes the spans of web. It is safe for concurrent use.
type Tracer struct {
	provider *tracing.Provider
	mask     mask.Mask
}

// New returns a Tracer whose spans go to provider.
func New(provider *tracing.Provider) *Tracer { return &Tracer{provider, mask.New(nil)} }

// Begin starts the span of a request, as a child of what its header traceparent
// names. The context is for all that is done for the request; end is called once,
// with the status and the pattern of the path, "" if none matched. What is secret in the
// path is not told.
func (t *Tracer) Begin(r *http.Request, id string) (ctx context.Context, end func(status int, route string)) {
	ctx = t.provider.Extract(r.Context(), r.Header.Get("traceparent"))
	ctx, span := t.provider.Tracer().Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", r.Method), attribute.String("url.path", t.mask.Target(r.URL.EscapedPath())), attribute.String("server.address", r.Host),
		attribute.String("sluice.request_id", id),
	))
	return ctx, func(status int, route string) {
		if route != "" {
			span.SetAttributes(attribute.String("http.route", route))
			span.SetName(r.Method + " " + route)
		}
		span.SetAttributes(attribute.Int("http.response.status_code", status))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, strconv.Itoa(status))
		}
		span.End()
	}
}

// commandKey names a command that was sent.
type commandKey struct {
	connection string
	request    int64
}

// Commands returns a monitor that makes a span of each command to service which is
// sent for a traced request. What is done for nobody's request is not traced.
func (t *Tracer) Commands(service string) *event.CommandMonitor {
	var open sync.Map // of trace.Span by commandKey
	finish := func(key commandKey, err error) {
		found, ok := open.LoadAndDelete(key)
		if !ok {
			return
		}
		span := found.(trace.Span)
		if err != nil {
			span.SetAttributes(attribute.String("error.type", errorType(err)))
			span.SetStatus(codes.Error, errorType(err))
		}
		span.End()
	}
	return &event.CommandMonitor{
		Started: func(ctx context.Context, e *event.CommandStartedEvent) {
			if !trace.SpanFromContext(ctx).IsRecording() {
				return
			}
			_, span := t.provider.Tracer().Start(ctx, spanName(e), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
				attribute.String("db.system.name", "mongodb"), attribute.String("db.operation.name", e.CommandName),
				attribute.String("db.namespace", e.DatabaseName), attribute.String("sluice.service", service),
			))
			if name := collectionOf(e); name != "" {
				span.SetAttributes(attribute.String("db.collection.name", name))
			}
			open.Store(commandKey{e.ConnectionID, e.RequestID}, span)
		},
		Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
			finish(commandKey{e.ConnectionID, e.RequestID}, nil)
		},
		Failed: func(_ context.Context, e *event.CommandFailedEvent) {
			finish(commandKey{e.ConnectionID, e.RequestID}, e.Failure)
		},
	}
}

func spanName(e *event.CommandStartedEvent) string {
	if name := collectionOf(e); name != "" {
		return e.CommandName + " " + name
	}
	return e.CommandName
}

// collectionOf returns the collection of a command: the value of its first element,
// where that is a name. It is all that is read of a command.
func collectionOf(e *event.CommandStartedEvent) string {
	value, err := e.Command.LookupErr(e.CommandName)
	if err != nil {
		return ""
	}
	name, _ := value.StringValueOK()
	return name
}

// errorType says what kind of failure it was: the server's code, or the type of the
// error. Its text could hold what was asked for.
func errorType(err error) string {
	var answer mongo.CommandError
	if errors.As(err, &answer) {
		return cmp.Or(answer.Name, strconv.Itoa(int(answer.Code)))
	}
	return fmt.Sprintf("%T", err)
}
