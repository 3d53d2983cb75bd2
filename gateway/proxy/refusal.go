package proxy

import (
	"fmt"
	"net/http"

	"sluice/gateway/acl"
	"sluice/gateway/auth"
	"sluice/gateway/h1"
)

// What the gateway answers by itself before it looks for an instance.

func (p *Proxy) pageBadRequest(a *ask) *page {
	return &page{
		Status: http.StatusBadRequest, Title: "Bad request",
		Reason: fmt.Sprintf("The gateway does not carry %.20s requests for %.200q.", a.method, p.mask.Target(a.path)),
		Hint:   "The path must start with / and must not hold the segments . or .., and CONNECT is not supported.",
	}
}

// pageRefusedBody answers a body that breaks its framing. Nothing of it is shown.
func pageRefusedBody(refused *h1.Error) *page {
	return &page{
		Status: refused.Status, Title: http.StatusText(refused.Status), Reason: "The body of the request is refused: " + refused.Reason + ".",
	}
}

// pageHealth tells whoever asks no more than whether to send requests here.
func (p *Proxy) pageHealth(x *exchange) *page {
	if p.cfg.Healthy != nil {
		if err := p.cfg.Healthy(); err != nil {
			return x.remark(0, err.Error(), &page{Status: http.StatusServiceUnavailable, Title: "Not now", Reason: "The gateway takes no new requests, or is not ready to."})
		}
	}
	return &page{Status: http.StatusOK, Title: "OK", Reason: "The gateway is up."}
}

func (p *Proxy) pageAmbiguous(a *ask) *page {
	return &page{
		Status: http.StatusBadRequest, Title: "Ambiguous path",
		Reason: fmt.Sprintf("The path %.200q has empty segments, backslashes or parameters, and means another route without them.", p.mask.Target(a.path)),
		Hint:   "Ask for the path with single slashes, and without \\ and ;.",
	}
}

func (p *Proxy) pageNoRoute(a *ask) *page {
	content := &page{
		Status: p.cfg.NoRouteStatus, Title: "No route",
		Reason: fmt.Sprintf("No service takes the path %.200q.", p.mask.Target(a.path)),
	}
	if p.cfg.ExplainErrors {
		content.Facts = []fact{{"host", fmt.Sprintf("%.200s", a.host)}}
		content.Hint = "A route exists while a healthy Connect instance in Consul carries a tag like " +
			p.cfg.Prefix + "/path or " + p.cfg.Prefix + "host/path."
		if p.cfg.AllowPlain {
			content.Hint += " An instance outside Connect needs plain=true in the tag as well."
		} else {
			content.Hint += " Instances outside Connect are not looked for, unless the gateway runs with -allow-plain."
		}
	}
	return content
}

// pageClosed tells nothing of the reason, which is an operator's: the admin page
// and the log have it.
func pageClosed(pl *plan) *page {
	return &page{
		Status: http.StatusForbidden, Title: "The route is closed",
		Reason: "A tag that was meant to restrict the route " + pl.name + " cannot be read, so nobody may use it.",
		Hint:   "The gateway's admin page names the tag. See also:", Command: "gateway lint",
	}
}

func pageRefused(pl *plan, verdict acl.Verdict) *page {
	return &page{
		Status: http.StatusForbidden, Title: "Not from here",
		Reason: "Clients at this address may not use the route " + pl.name + ".",
		Facts:  []fact{{"client", verdict.Client.String()}, {"why", verdict.String()}},
		Hint:   "The route's tag says who may, with allow= or deny=.",
	}
}

func pageUnauthorized(pl *plan, verdict auth.Verdict) *page {
	answer := &page{
		Status: http.StatusForbidden, Title: "No access",
		Reason: "The route " + pl.name + " asks for credentials: " + verdict.Reason.String() + ".",
		Header: http.Header{},
	}
	switch {
	case verdict.Challenge != "":
		answer.Status, answer.Title = http.StatusUnauthorized, "Who are you?"
		answer.Header.Set("WWW-Authenticate", verdict.Challenge)
	case verdict.Reason == auth.Busy:
		answer.Status, answer.Title = http.StatusServiceUnavailable, "Too many log-ins at a time"
		answer.Header.Set("Retry-After", "1")
	}
	return answer
}
