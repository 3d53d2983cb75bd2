package proxy

import (
	"net/http"
	"net/url"
	"strings"

	"sluice/gateway/tag"
)

// maxHops is after how many redirects to the same host a client would still be in
// the gateway's hands for the gateway to call it a loop.
const maxHops = 10

// redirected answers a request whose route leads elsewhere. nil means that it would
// lead the client back here for ever, and that the route has instances as well.
func (p *Proxy) redirected(x *exchange) *page {
	location := locationOf(x.plan.options, &x.ask)
	if !x.loops(location) {
		return &page{
			Status: x.plan.options.RedirectCode, Title: "Elsewhere", Reason: "What you ask for is at " + p.mask.Target(location),
			Header: http.Header{"Location": {location}},
		}
	}
	if len(x.plan.members) > 0 {
		return nil
	}
	return p.discreet(&page{
		Status: http.StatusLoopDetected, Title: "A redirect to itself",
		Reason: "What you ask for is said to be at " + p.mask.Target(location) + ", which leads back here.",
		Hint:   "The tag's redirect= has to lead to another path, host or scheme, or a longer route has to take what it leads to.",
	})
}

// loops follows a redirect as a client would, for as long as it stays at the same
// scheme and host and each next route is a redirect too.
func (x *exchange) loops(location string) bool {
	for range maxHops {
		next, err := url.Parse(location)
		if err != nil || next.Scheme != "" && next.Scheme != x.proto() || next.Host != "" && !sameHost(next.Host, x.host) {
			return false
		}
		path := next.Path
		if path == "" {
			path = "/"
		}
		r, ok := x.state.table.Lookup(x.host, path)
		if !ok {
			return false
		}
		to := planOf(r)
		if to.closed != "" || to.options.RedirectCode == 0 || len(to.members) > 0 && to != x.plan {
			return false
		}
		location = locationOf(to.options, &ask{
			host: x.host, raw: next.EscapedPath(), path: path, query: next.RawQuery, hasQuery: next.RawQuery != "" || next.ForceQuery,
		})
	}
	return true
}

// sameHost compares hosts without the ports that may be left out.
func sameHost(a, b string) bool {
	bare := func(host string) string {
		return strings.TrimSuffix(strings.TrimSuffix(host, ":80"), ":443")
	}
	return strings.EqualFold(bare(a), bare(b))
}

// locationOf is where a redirect leads. $path stands for the path and query of the
// request, without what strip= takes away, and $host for its host.
func locationOf(o *tag.Options, a *ask) string {
	path := rewriting{strip: o.Strip}.target(a.raw, a.path)
	if a.hasQuery {
		path += "?" + a.query
	}
	// A path that begins with two slashes would be another host.
	path = "/" + strings.TrimLeft(path, "/\\")
	location := o.RedirectURL
	if strings.Contains(location, "/$path") {
		return strings.NewReplacer("/$path", path, "$host", safeHost(a.host)).Replace(location)
	}
	return strings.NewReplacer("$path", path, "$host", safeHost(a.host)).Replace(location)
}

// safeHost is the host of a request as a part of a URL.
func safeHost(host string) string {
	if parsed, err := url.Parse("http://" + host + "/"); err != nil || parsed.Host != host || strings.ContainsAny(host, "@/\\?#\"<> ") {
		return ""
	}
	return host
}
