package main

import (
	"fmt"
	"strings"
)

// The paths that every proxy serves on every host, and what is behind each.
const (
	keepPath  = "/keep"  // mutual TLS, connections kept
	closePath = "/close" // mutual TLS, a new connection and handshake for each request
	plainPath = "/plain" // no TLS, connections kept
)

// hostRoute sends what begins with Path on Host to the upstream. A Host that begins
// with "*." stands for exactly one label more.
type hostRoute struct{ Host, Path string }

// pathsPerHost is how many routes each host has.
const pathsPerHost = 5

// makeRoutes returns n routes over n/5 hosts, of which every tenth is a wildcard:
// 10,000 routes have 2,000 hosts.
func makeRoutes(n int) []hostRoute {
	routes := make([]hostRoute, 0, n)
	for i := range n {
		host := fmt.Sprintf("h%d.bench.test", i/pathsPerHost)
		if (i/pathsPerHost)%10 == 0 {
			host = fmt.Sprintf("*.w%d.bench.test", i/pathsPerHost)
		}
		routes = append(routes, hostRoute{host, fmt.Sprintf("/p%d/", i%pathsPerHost)})
	}
	return routes
}

// wildcard reports whether the host is one, and returns what follows its star.
func (r hostRoute) wildcard() (suffix string, ok bool) { return strings.CutPrefix(r.Host, "*") }

// hit is one request: a host and a path.
type hit struct{ Host, Path string }

// hits returns n requests that differ, spread evenly over the routes that serve them.
func hits(routes []hostRoute, n int) []hit {
	found := make([]hit, 0, n)
	for i := range n {
		r := routes[i*len(routes)/n]
		host := r.Host
		if suffix, ok := r.wildcard(); ok {
			host = "any" + suffix
		}
		found = append(found, hit{host, fmt.Sprintf("%sitem-%d", r.Path, i)})
	}
	return found
}

// plan is what one proxy is to serve. It decides the proxy's configuration files
// and arguments, and nothing else does.
type plan struct {
	// host, port and admin are where the proxy listens, folder is its own.
	host        string
	port, admin int
	folder      string
	// agent is the Consul agent, for a proxy that speaks to one.
	agent       string
	credentials credentials
	// routes are served beside the three paths.
	routes []hostRoute
	// help is what the program says of its flags, "" if it was not asked.
	help string
	// extra are further arguments.
	extra []string
	// groups are what is offered for the key exchange, "" if that is the proxy's choice.
	groups string
	// root is true if the bench runs as root, which some proxies must be told.
	root bool
}

func (p plan) listen() string       { return fmt.Sprintf("%s:%d", p.host, p.port) }
func (p plan) adminAddress() string { return fmt.Sprintf("%s:%d", p.host, p.admin) }
func (p plan) backend(n int) string { return fmt.Sprintf("%s:%d", p.host, n) }
func (p plan) file(n string) string { return p.folder + "/" + n }

// backendPath is one of the three paths, with the upstream's port.
type backendPath struct {
	name, path string
	port       int
	tls        bool
}

func backendPaths() []backendPath {
	return []backendPath{
		{"keep", keepPath, mtlsPort, true},
		{"close", closePath, mtlsClosePort, true},
		{"plain", plainPath, plainPort, false},
	}
}

// launch is how a proxy is started: files to write first, by name, then arguments.
type launch struct {
	files map[string]string
	args  []string
}
