package main

import (
	"fmt"
	"strings"
)

// launchHaproxy looks routes up in maps, which is how it serves many: the prefix
// of host and path, for a wildcard without the first label.
func launchHaproxy(p plan) (launch, error) {
	var text, exact, wild strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	// It wants two files for each connection that it may have, and we never give it
	// that many: without this it does not start where fewer are allowed.
	line("global\n no strict-limits\n maxconn 30000\n nbthread 2")
	line("defaults\n mode http\n http-reuse always\n option forwardfor")
	line(" timeout connect 5s\n timeout client 600s\n timeout server 60s\n timeout http-keep-alive 600s\n maxconn 30000")
	line("frontend in\n bind %s", p.listen())
	for _, b := range backendPaths() {
		line(" use_backend %s if { path_beg %s }", b.name, b.path)
	}
	if len(p.routes) > 0 {
		line(" use_backend %%[base,lower,map_beg(%[1]s)] if { base,lower,map_beg(%[1]s) -m found }", p.file("exact.map"))
		line(" use_backend %%[base,lower,regsub(^[^.]*,),map_beg(%[1]s)] if { base,lower,regsub(^[^.]*,),map_beg(%[1]s) -m found }", p.file("wild.map"))
	}
	for _, r := range p.routes {
		if suffix, ok := r.wildcard(); ok {
			fmt.Fprintf(&wild, "%s%s plain\n", suffix, r.Path)
		} else {
			fmt.Fprintf(&exact, "%s%s plain\n", r.Host, r.Path)
		}
	}
	for _, b := range backendPaths() {
		line("backend %s", b.name)
		secured := ""
		if b.tls {
			secured = fmt.Sprintf(" ssl verify required ca-file %s crt %s no-ssl-reuse ssl-min-ver TLSv1.3", p.credentials.roots, p.credentials.pair)
		}
		line(" server one %s%s", p.backend(b.port), secured)
	}
	return launch{
		files: map[string]string{"haproxy.cfg": text.String(), "exact.map": exact.String(), "wild.map": wild.String()},
		args:  append([]string{"-db", "-f", p.file("haproxy.cfg")}, p.extra...),
	}, nil
}
