package proxy

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"sluice/gateway/accesslog"
	"sluice/gateway/acl"
	"sluice/gateway/auth"
	"sluice/gateway/balance"
	"sluice/gateway/retry"
	"sluice/gateway/route"
	"sluice/gateway/tag"
)

// ask is what a request asks for, as far as it decides where it goes. Its strings
// may point into a buffer: they hold as long as the exchange.
type ask struct {
	method, host string
	// raw is the path as it came, path the same decoded, query what follows "?".
	raw, path, query string
	hasQuery         bool
	// peer is who has connected, client who has asked: another one behind a trusted
	// proxy. The zero Addr is somebody unknown.
	peer, client netip.Addr
	// port is the one that peer has connected from; 0 is not known.
	port uint16
	// tls is true if the client speaks TLS: with the gateway, or with a trusted proxy,
	// which says so.
	tls bool
	// front is what that proxy says.
	front   front
	hasBody bool
}

// exchange is one request on its way through the proxy.
type exchange struct {
	ask
	id      string
	started time.Time
	state   *snapshot
	plan    *plan
	user    string
	hash    uint64
	// span is nil where nobody traces.
	span Span
	// clientText is client in words; "" until somebody asks.
	clientText string
	// wants is the instance that a cookie names.
	wants string

	// answering is called when the head of the answer is there; false is too late.
	answering func() bool
	// stopUpload ends a read of the request's body, and bare says that the answer has
	// neither body nor trailer; both where net/http carries the request.
	stopUpload func()
	bare       bool

	// held is the body of the answer, and broke why it has ended early, where net/http
	// carries the request.
	held  io.Closer
	broke error

	// What happened.
	attempts []attempt
	tried    []*balance.Endpoint
	answered *member
	// unauthorized is true if its credentials were not good enough.
	unauthorized bool
	// waits is how often the request has waited for a newer table.
	waits int
	err   error
	// flags are what was out of the ordinary and no error says, and why is the reason
	// in words where the gateway has answered by itself.
	flags accesslog.Flags
	why   string
	room  [3]attempt
	rooms [3]*balance.Endpoint
}

// attempt is one try at one instance, for the log and for explanations.
type attempt struct {
	member  *member
	outcome balance.Outcome
	reason  retry.Reason
	began   time.Time
	took    time.Duration
	hedge   bool
	err     error
	// progress says how far it got, if it failed.
	progress retry.Progress
	// serial is the number of the leaf that the gateway showed; "" where it showed none.
	serial string
}

func (x *exchange) begin(id string, now time.Time) {
	x.id, x.started = id, now
	x.attempts, x.tried = x.room[:0], x.rooms[:0]
}

// admit decides whether and by which plan a request is served. A page is the
// answer of the gateway itself. authorization is the value of the only
// Authorization header, "" if there is none or more.
func (p *Proxy) admit(ctx context.Context, x *exchange, authorization string) *page {
	x.state = p.state.Load()
	if x.path == "" || x.path[0] != '/' || x.method == http.MethodConnect || route.HasDotSegment(x.path) {
		return x.remark(accesslog.ClientMalformed, "a request like this is not carried", p.pageBadRequest(&x.ask))
	}
	if p.cfg.HealthPath != "" && x.path == p.cfg.HealthPath {
		return p.pageHealth(x)
	}
	matched, ok := x.state.table.Lookup(x.host, x.path)
	if x.ambiguous(matched) {
		return x.remark(accesslog.ClientMalformed, "the path means another route for a lenient reader", p.pageAmbiguous(&x.ask))
	}
	if !ok {
		return x.remark(accesslog.NoRoute, "no route takes it", p.pageNoRoute(&x.ask))
	}
	x.plan = planOf(matched)
	if x.plan.closed != "" {
		return x.remark(accesslog.Refused, x.plan.closed, p.discreet(pageClosed(x.plan)))
	}
	for _, list := range x.plan.lists {
		if verdict := list.Check(x.client); !verdict.Allowed() {
			return x.remark(accesslog.Refused, verdict.String(), p.discreet(pageRefused(x.plan, verdict)))
		}
	}
	if x.plan.climbs(x.path) {
		return x.remark(accesslog.ClientMalformed, "the path leaves what the route takes", p.pageBadRequest(&x.ask))
	}
	if answer := p.authenticate(ctx, x, authorization); answer != nil {
		return answer
	}
	if x.plan.options.RedirectCode != 0 {
		return p.redirected(x)
	}
	return nil
}

// ambiguous reports whether the path leads elsewhere for a reader that is more
// lenient: many services take /a//b, /a\b or /a;x/b for /a/b, and would serve under
// one route what another one guards.
func (x *exchange) ambiguous(matched *route.Route) bool {
	for path := range readings(x.path) {
		if other, ok := x.state.table.Lookup(x.host, path); ok && other != matched {
			return true
		}
	}
	return false
}

// authenticate checks the credentials for every scheme of the route.
func (p *Proxy) authenticate(ctx context.Context, x *exchange, authorization string) *page {
	for _, scheme := range x.plan.schemes {
		if p.cfg.Auth == nil {
			const why = "no scheme of authentication is configured"
			return x.remark(accesslog.Refused, why, p.discreet(pageClosed(&plan{name: x.plan.name, terms: &terms{closed: why}})))
		}
		verdict := p.cfg.Auth.Check(ctx, scheme, authorization)
		if !verdict.Allowed() {
			x.unauthorized = true
			flag := accesslog.Unauthenticated
			if verdict.Reason == auth.Busy {
				flag = accesslog.Overflow
			}
			return x.remark(flag, verdict.Reason.String(), p.discreet(pageUnauthorized(x.plan, verdict)))
		}
		x.user = verdict.User
	}
	return nil
}

// stick works out what ties the client to an instance. get returns a header of
// the request, cookie the value of a cookie.
func (x *exchange) stick(get, cookie func(string) string) {
	switch x.plan.sticky {
	case tag.StickyIP:
		x.hash = balance.Hash(x.client.String())
	case tag.StickyHeader:
		value := get(x.plan.options.StickyHeader)
		if value == "" {
			value = x.client.String()
		}
		x.hash = balance.Hash(value)
	case tag.StickyCookie:
		x.wants = cookie(x.plan.cookie)
	}
}

// clientOf returns who has asked, behind the proxies that are trusted.
func (p *Proxy) clientOf(peer netip.Addr, forwarded []string) netip.Addr {
	if p.cfg.Trusted.Empty() {
		return peer
	}
	return acl.Client(p.cfg.Trusted, peer, forwarded)
}

// target works out the path and query that an instance gets: the route's strip is
// taken from the front, then its prepend put there. raw is still escaped.
func (o rewriting) target(raw, path string) string {
	if o.strip != "" && strings.HasPrefix(path, o.strip) {
		raw = raw[escapedLength(raw, len(o.strip)):]
		if raw == "" || raw[0] != '/' {
			raw = "/" + raw
		}
	}
	return o.prepend + raw
}

// rewriting is what a route changes of the path.
type rewriting struct{ strip, prepend string }

// escapedLength is how many bytes of raw hold its first n decoded bytes.
func escapedLength(raw string, n int) int {
	i := 0
	for ; n > 0 && i < len(raw); n-- {
		if raw[i] == '%' && i+2 < len(raw) {
			i += 2
		}
		i++
	}
	return min(i, len(raw))
}

// hostFor is the Host that an instance gets.
func (m *member) hostFor(x *exchange) string {
	switch m.options.Host {
	case "":
		return x.host
	case tag.HostOfUpstream:
		return m.target.instance.Address
	default:
		return m.options.Host
	}
}
