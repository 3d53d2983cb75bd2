package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"sluice/gateway/accesslog"
	"sluice/gateway/balance"
	"sluice/mesh"
)

// head is what the access log wants of a request's head.
type head interface {
	Get(name string) string
	protocol() string
}

type stdHead struct{ *http.Request }

func (h stdHead) Get(name string) string { return h.Header.Get(name) }
func (h stdHead) protocol() string       { return h.Proto }

// ending is how a request ended. status 0 is a client that left.
type ending struct {
	status  int
	in, out int64
	at      time.Time
}

// account logs and counts one request that has ended.
func (p *Proxy) account(x *exchange, h head, end ending) {
	now, status := end.at, end.status
	service := ""
	switch {
	case x.answered != nil:
		service = x.answered.target.service
	case x.plan != nil:
		service = x.plan.route.Services[0]
	}
	p.metrics.request(service, status, now.Sub(x.started))
	if x.unauthorized {
		p.metrics.unauthorized.Inc()
	}
	x.measure(now)
	p.recent.put(x, status, now)
	x.endSpan(status)
	if status >= http.StatusInternalServerError || x.err != nil && status != 0 {
		p.failed.put(x, status, now)
	}
	if x.err != nil {
		p.complain(x, service, status, now)
	}
	if p.cfg.Access != nil {
		e := p.entry(x, h, end)
		p.cfg.Access.Put(&e)
	}
}

// measure counts the attempts for the instances that they were at, by the time to
// the head of the answer. What says nothing about an instance is not counted: a
// denial, and an attempt that nobody waited for.
func (x *exchange) measure(now time.Time) {
	for i := range x.attempts {
		switch a := &x.attempts[i]; a.outcome {
		case balance.Policy, balance.Canceled:
		default:
			a.member.target.recent.Observe(now, a.took, a.outcome.Failure())
		}
	}
}

func (x *exchange) instance() string {
	if x.answered == nil {
		return ""
	}
	return x.answered.target.instance.ServiceID
}

func (p *Proxy) entry(x *exchange, h head, end ending) accesslog.Entry {
	target := x.raw
	if x.hasQuery {
		target += "?" + x.query
	}
	e := accesslog.Entry{
		Start: x.started, End: end.at, Client: netip.AddrPortFrom(x.client, 0), TLS: x.tls, Method: x.method, Target: target,
		Protocol: h.protocol(), Host: x.host, User: x.user, RequestID: x.id, Referer: h.Get("Referer"), UserAgent: h.Get("User-Agent"),
		Headers: h, Status: end.status, BytesIn: end.in, BytesOut: end.out, Attempts: len(x.attempts),
	}
	if x.plan != nil {
		e.Route = x.plan.name
	}
	if m := x.answered; m != nil {
		e.Service, e.Instance, e.Datacenter = m.target.service, m.target.instance.ServiceID, p.datacenterOf(&m.target.instance)
		e.Upstream, _ = netip.ParseAddrPort(m.target.instance.Address)
		e.UpstreamTLS = m.mesh() || m.wire.manner.tls
		if m.mesh() {
			e.Source, e.Destination = p.cfg.Source, m.target.instance.ID.String()
		}
	}
	if x.err != nil {
		e.Reason, e.Flags = x.err.Error(), flagsOf(x.err)
	}
	return e
}

// flagsOf says what was out of the ordinary.
func flagsOf(err error) accesslog.Flags {
	switch {
	case errors.Is(err, mesh.ErrDenied):
		return accesslog.Denied
	case errors.Is(err, mesh.ErrWrongIdentity):
		return accesslog.WrongIdentity
	case errors.Is(err, mesh.ErrNotReady):
		return accesslog.NotReady
	case errors.Is(err, balance.ErrOverflow):
		return accesslog.Overflow
	case errors.Is(err, mesh.ErrNoInstance):
		return accesslog.NoHealthy
	case errors.Is(err, context.Canceled), errors.Is(err, errClientGone), clientsFault(err):
		return accesslog.ClientGone
	case isTimeout(err):
		return accesslog.UpstreamTimeout
	case unsent(err):
		return accesslog.ConnectFailed
	default:
		return accesslog.UpstreamReset
	}
}
