package main

import (
	"fmt"
	"regexp"
	"strings"
)

type object = map[string]any

// launchTraefik uses the file provider: its Consul provider waits seconds before
// it follows a change.
func launchTraefik(p plan) (launch, error) {
	routers, services := object{}, object{}
	for _, b := range backendPaths() {
		balancer := object{"servers": []object{{"url": "http://" + p.backend(b.port)}}}
		if b.tls {
			balancer = object{"servers": []object{{"url": "https://" + p.backend(b.port)}}, "serversTransport": "connect"}
		}
		services[b.name] = object{"loadBalancer": balancer}
		routers[b.name] = object{"rule": fmt.Sprintf("PathPrefix(`%s`)", b.path), "service": b.name, "entryPoints": []string{"in"}}
	}
	for i, r := range p.routes {
		rule := fmt.Sprintf("Host(`%s`)", r.Host)
		if suffix, ok := r.wildcard(); ok {
			rule = fmt.Sprintf("HostRegexp(`^[^.]+%s$`)", regexp.QuoteMeta(suffix))
		}
		routers[fmt.Sprintf("r%d", i)] = object{
			"rule": fmt.Sprintf("%s && PathPrefix(`%s`)", rule, strings.TrimSuffix(r.Path, "/")), "service": "plain", "entryPoints": []string{"in"},
		}
	}
	// Its own check of the name is off, because a Connect certificate has none;
	// chain and URI are checked all the same.
	transport := object{
		"rootCAs": []string{p.credentials.roots}, "peerCertURI": p.credentials.upstream, "insecureSkipVerify": true,
		"certificates":        []object{{"certFile": p.credentials.certificate, "keyFile": p.credentials.key}},
		"maxIdleConnsPerHost": 256, "disableHTTP2": true,
	}
	text, err := asJSON(object{"http": object{"routers": routers, "services": services, "serversTransports": object{"connect": transport}}})
	return launch{
		files: map[string]string{"dynamic.yml": text},
		args: append([]string{
			"--providers.file.filename=" + p.file("dynamic.yml"), "--providers.file.watch=false",
			"--entrypoints.in.address=" + p.listen(), "--entrypoints.metrics.address=" + p.adminAddress(),
			"--metrics.prometheus=true", "--metrics.prometheus.entrypoint=metrics",
			"--log.level=ERROR", "--global.checknewversion=false", "--global.sendanonymoususage=false",
		}, p.extra...),
	}, err
}
