// Package tracing is what a process needs to send spans to an OpenTelemetry collector
// where the standard environment variables ask for it (OTEL_EXPORTER_OTLP_ENDPOINT or
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, and not OTEL_SDK_DISABLED). It goes by the
// others of the specification, too, such as OTEL_TRACES_SAMPLER and
// OTEL_SERVICE_NAME. A process that does not import it carries nothing of it.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// flushTime bounds the last delivery at a stop.
const flushTime = 2 * time.Second

// Config says who sends spans.
type Config struct {
	// Service, Version and Node describe the process; what the environment says wins.
	Service, Version, Node string
	// Scope names the part of the program that makes the spans, for example
	// "sluice/web".
	Scope string
	// Logger gets what goes wrong; nil is silent.
	Logger *slog.Logger
}

// Provider makes spans and sends them. It is safe for concurrent use.
type Provider struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	context  propagation.TraceContext
}

func (cfg Config) withDefaults() Config {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// Wanted reports whether the environment asks for traces.
func Wanted(getenv func(string) string) bool {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// Open returns a Provider that exports over OTLP/HTTP, by the environment. It does
// not wait for the collector. Run must be called. The library keeps its reports of
// errors for the whole process: Open leads them to cfg.Logger, and is for the one
// Provider that a program has.
func Open(ctx context.Context, cfg Config) (*Provider, error) {
	cfg = cfg.withDefaults()
	otel.SetErrorHandler(&reporter{logger: cfg.Logger, now: time.Now})
	otel.SetLogger(logr.Discard()) // it would write headers of the environment, which may be secret
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	return New(ctx, cfg, sdk.NewBatchSpanProcessor(exporter))
}

// New returns a Provider whose spans go to processor.
func New(ctx context.Context, cfg Config, processor sdk.SpanProcessor) (*Provider, error) {
	cfg = cfg.withDefaults()
	described, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", cfg.Service), attribute.String("service.version", cfg.Version), attribute.String("host.name", cfg.Node),
	), resource.WithFromEnv()) // what the environment says wins
	if err != nil && described == nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	if err != nil {
		cfg.Logger.Warn("attributes of OTEL_RESOURCE_ATTRIBUTES are left out", "err", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(processor), sdk.WithResource(described))
	return &Provider{provider: provider, tracer: provider.Tracer(cfg.Scope)}, nil
}

// Run keeps the exporter until ctx ends, and then delivers what is left. It returns
// nil: a collector that is away costs its spans, not the stop.
func (p *Provider) Run(ctx context.Context) error {
	<-ctx.Done()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
	defer cancel()
	_ = p.provider.Shutdown(last)
	return nil
}

// Tracer returns what makes spans.
func (p *Provider) Tracer() trace.Tracer { return p.tracer }

// Extract returns ctx with the span that a header traceparent names as its parent; ""
// names none.
func (p *Provider) Extract(ctx context.Context, traceparent string) context.Context {
	if traceparent == "" {
		return ctx
	}
	return p.context.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
}

// Inject returns the header traceparent for what is done within ctx.
func (p *Provider) Inject(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	p.context.Inject(ctx, carrier)
	return carrier["traceparent"]
}
