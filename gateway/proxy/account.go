package proxy

import (
	"net/http"
	"net/netip"
	"time"

	"sluice/gateway/accesslog"
	"sluice/gateway/balance"
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
	p.metrics.request(service, end, now.Sub(x.started))
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
		p.metrics.failed(service, x.err)
		p.complain(x, service, status, now)
	}
	if p.cfg.Access != nil {
		e := p.entry(x, h, end)
		p.cfg.Access.Put(&e)
	}
}

// measure counts the attempts for the instances that they were at.
func (x *exchange) measure(now time.Time) {
	for i := range x.attempts {
		a := &x.attempts[i]
		a.member.target.count(now, a.outcome, a.took)
	}
}

// count counts an attempt at the instance. What says nothing about it is not in its
// last minute: a denial, and an attempt that nobody waited for.
func (t *target) count(now time.Time, outcome balance.Outcome, took time.Duration) {
	t.outcomes[outcome].Add(1)
	if outcome != balance.Policy && outcome != balance.Canceled {
		t.recent.Observe(now, took, outcome.Failure())
	}
}

func (x *exchange) instance() string {
	if x.answered == nil {
		return ""
	}
	return x.answered.target.instance.ServiceID
}

func (p *Proxy) entry(x *exchange, h head, end ending) accesslog.Entry {
	e := accesslog.Entry{
		Start: x.started, End: end.at, Overhead: x.overhead(end.at), Client: x.clientAddress(), TLS: x.tls, Method: x.method, Target: x.withQuery(x.raw),
		Protocol: h.protocol(), Host: x.host, User: x.user, RequestID: x.id, Referer: h.Get("Referer"), UserAgent: h.Get("User-Agent"),
		Headers: h, Status: end.status, BytesIn: end.in, BytesOut: end.out, Attempts: len(x.attempts), Flags: x.allFlags(), Reason: x.reason(),
	}
	if x.plan != nil {
		e.Route = x.plan.name
	}
	if m := x.answered; m != nil {
		e.Service, e.Instance, e.Datacenter = m.target.service, m.target.instance.ServiceID, p.datacenterOf(&m.target.instance)
		e.Upstream, _ = netip.ParseAddrPort(m.target.instance.Address)
		e.UpstreamTLS, e.UpstreamTarget = m.tls(), m.requestTarget(x)
		if m.mesh() {
			e.Source, e.Destination = p.cfg.Source, m.target.instance.ID.String()
		}
	}
	if n := len(x.attempts); n > 0 {
		e.Serial = x.attempts[n-1].serial
	}
	return e
}

// clientAddress is who has asked: without the port behind a proxy, which does not say
// it.
func (x *exchange) clientAddress() netip.AddrPort {
	if x.client != x.peer {
		return netip.AddrPortFrom(x.client, 0)
	}
	return netip.AddrPortFrom(x.client, x.port)
}

func (x *exchange) withQuery(path string) string {
	if x.hasQuery {
		return path + "?" + x.query
	}
	return path
}

// overhead is the time in which the gateway alone had the request: until it had an
// answer, and no instance was being tried.
func (x *exchange) overhead(end time.Time) time.Duration {
	var tried time.Duration
	for i := range x.attempts {
		if a := &x.attempts[i]; !a.hedge { // what ran beside another one is counted with that
			tried += a.took
			end = a.began.Add(a.took)
		}
	}
	return max(0, end.Sub(x.started)-tried)
}
