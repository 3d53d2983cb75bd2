package main

import (
	"context"
	"net/http"

	"go.mongodb.org/mongo-driver/v2/event"

	"sluice/internal/service"
	"sluice/internal/service/tracing"
	"sluice/web/trace"
)

// trace makes what sends traces, if the environment asks for it.
func (with *opening) trace(ctx context.Context, group *service.Group, getenv func(string) string, node string) error {
	if !tracing.Wanted(getenv) {
		return nil
	}
	provider, err := tracing.Open(ctx, tracing.Config{Service: name, Version: service.Version(), Node: node, Scope: "sluice/web", Logger: group.Logger})
	if err != nil {
		return err
	}
	group.Add("traces", provider.Run)
	with.tracer = trace.New(provider)
	return nil
}

// begin starts the span of a request; it is nil where nobody asks for traces.
func (with opening) begin() func(*http.Request, string) (context.Context, func(int, string)) {
	if with.tracer == nil {
		return nil
	}
	return with.tracer.Begin
}

// commands makes the spans of what is asked of a service; it is nil where nobody asks
// for traces.
func (with opening) commands(service string) *event.CommandMonitor {
	if with.tracer == nil {
		return nil
	}
	return with.tracer.Commands(service)
}
