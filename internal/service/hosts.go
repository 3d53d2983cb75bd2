package service

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// hosts are the names under which the operations endpoint answers. A browser
// takes a page of another site for one of this endpoint if the site's name is
// made to resolve to its address (DNS rebinding); the name is all that tells
// them apart, and it is in Host.
type hosts map[string]bool

// newHosts returns the names that are told, beside the ones that are always
// there; of an address ("localhost:9998") the host counts.
func newHosts(address string, further []string) hosts {
	set := hosts{}
	for _, name := range append([]string{hostOf(address)}, further...) {
		if name != "" {
			set[strings.ToLower(strings.TrimSuffix(name, "."))] = true
		}
	}
	return set
}

// allow says whether host, the Host of a request, is a name of this endpoint:
// one that was told, one of the loopback, or an address, which no foreign site
// has for a name. A request without Host is of no browser.
func (h hosts) allow(host string) bool {
	name := strings.ToLower(strings.TrimSuffix(hostOf(host), "."))
	if name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") || h[name] {
		return true
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}

// hostOf returns host without its port and without the brackets of an address.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

// guard refuses requests for other names.
func (h hosts) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.allow(r.Host) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, fmt.Sprintf("%q is not a name of this endpoint, and a page of another site could be asking; use its IP address or localhost, or add the name to -admin-hosts.", hostOf(r.Host)),
			http.StatusMisdirectedRequest)
	})
}

// checkHostName refuses what cannot be a name in Host.
func checkHostName(name string) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !letter && r != '-' && r != '.' && r != '_'
	}) {
		return errors.New("want the name of a host, without a port and without wildcards")
	}
	return nil
}
