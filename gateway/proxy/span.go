package proxy

// Tracer tells a tracing system of requests. It is safe for concurrent use.
type Tracer interface {
	// Begin begins the span of a request. parent is the client's traceparent (W3C
	// Trace Context), "" if there is none.
	Begin(parent string, r Traced) Span
}

// Traced is what is known of a request at its beginning.
type Traced struct{ ID, Method, Scheme, Host, Path, Client string }

// IsTimeout reports whether an error that a Span is told of means that an answer did not
// come in time.
func IsTimeout(err error) bool { return isTimeout(err) }

// Tried is what is known of an attempt at its beginning. URL is what the instance is
// asked for, with secrets left out as OpenTelemetry's conventions have it.
type Tried struct{ Service, Instance, Address, URL string }

// Span is the span of one request. Its tries may be of several goroutines.
type Span interface {
	// Try begins the span of one attempt. traceparent is what the instance gets; end
	// is called with the status of the answer, or with what went wrong.
	Try(t Tried) (traceparent string, end func(status int, err error))
	// End ends the span. status 0 is a client that left; route is "" if there was
	// none.
	End(status int, route string, err error)
}

// span begins the span of a request, if anybody wants it.
func (p *Proxy) span(x *exchange, parent string) {
	if p.cfg.Tracer == nil {
		return
	}
	x.span = p.cfg.Tracer.Begin(parent, Traced{
		ID: x.id, Method: string([]byte(x.method)), Scheme: x.proto(), Host: string([]byte(x.host)), Path: p.mask.Target(string([]byte(x.path))),
		Client: x.forwardedFor(),
	})
}

// endSpan ends it.
func (x *exchange) endSpan(status int) {
	if x.span == nil {
		return
	}
	route := ""
	if x.plan != nil {
		route = x.plan.name
	}
	x.span.End(status, route, x.err)
}

// try begins the span of one attempt.
func (p *Proxy) try(x *exchange, m *member) (traceparent string, end func(status int, err error)) {
	if x.span == nil {
		return "", func(int, error) {}
	}
	return x.span.Try(Tried{
		Service: m.target.service, Instance: m.target.instance.ServiceID, Address: m.target.instance.Address,
		URL: p.mask.Attribute().Target(m.scheme() + "://" + m.target.instance.Address + m.requestTarget(x)),
	})
}
