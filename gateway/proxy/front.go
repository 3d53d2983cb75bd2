package proxy

import (
	"net"
	"strconv"

	"sluice/gateway/h1"
)

// front is what a trusted proxy in front says of how the client came to it: in
// X-Forwarded-Proto, -Port and -Host. What it does not say, or not in one word that can
// be used, is "".
type front struct{ proto, port, host string }

// hear believes a trusted proxy. only returns the value of the only field with a name, ""
// if there is none or more: of two, one may be the client's.
func (a *ask) hear(only func(name string) string) {
	if proto := only("X-Forwarded-Proto"); proto == "http" || proto == "https" {
		a.front.proto, a.tls = proto, proto == "https"
	}
	if port := only("X-Forwarded-Port"); isPort(port) {
		a.front.port = port
	}
	if host := only("X-Forwarded-Host"); h1.ValidHost(host) {
		a.front.host = host
	}
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == text
}

// proto is what the client speaks, with the gateway or with a trusted proxy.
func (a *ask) proto() string {
	if a.tls {
		return "https"
	}
	return "http"
}

// forwardedHost is the Host that the client has asked for.
func (a *ask) forwardedHost() string {
	if a.front.host != "" {
		return a.front.host
	}
	return a.host
}

// forwardedPort is the port that the client has connected to. own is that of the
// gateway, which is not it where a proxy speaks for the client and names none: then it
// is the one in Host, or that of the scheme.
func (a *ask) forwardedPort(own string) string {
	switch {
	case a.front.port != "":
		return a.front.port
	case a.front.proto == "":
		return own
	}
	if _, port, err := net.SplitHostPort(a.forwardedHost()); err == nil && isPort(port) {
		return port
	}
	if a.tls {
		return "443"
	}
	return "80"
}
