package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// The peers' names, as flags, files and results have them.
const (
	sluice        = "sluice"
	sluiceStd     = "sluice-std"
	sluiceOther   = "sluice-other"
	sluiceClassic = "sluice-x25519"
	nginx         = "nginx"
	haproxy       = "haproxy"
	envoy         = "envoy"
	envoyHybrid   = "envoy-mlkem"
	traefik       = "traefik"
	fabio         = "fabio"
	fabioRepaired = "fabio-repaired"
)

// peer is one proxy that can be measured.
type peer struct {
	name string
	// program is the binary's name, variable what overrides where it is.
	program, variable string
	// debian is the package that has it, "" if tools/peers/get gets it.
	debian string
	// ours is true for the gateway, whatever its build and arguments.
	ours bool
	// args are further arguments, beside those that are given for the gateway.
	args []string
	// brief leaves out the scenarios that are not about CPU time for a request.
	brief bool
	// only is the one scenario that the row is for, "" if it is for all.
	only string
	// environment is what it has beside ours, as NAME=value.
	environment []string
	// groups are what it offers for the key exchange, "" if that is its own choice.
	groups string
	// launch decides files and arguments. It is pure.
	launch func(plan) (launch, error)
	// connect is false for a proxy that cannot present a client certificate.
	connect bool
	// version are the arguments that make it tell its version.
	version []string
	// remark is what a reader of the table must know.
	remark string
}

func peers() []peer {
	return []peer{
		{
			name: sluice, program: "gateway", ours: true, launch: launchSluice, connect: true, version: []string{"-version"},
			remark: "checks chain, exact identity and intentions",
		},
		{
			name: sluiceStd, program: "gateway", ours: true, args: []string{"-codec=std"}, brief: true, launch: launchSluice, connect: true, version: []string{"-version"},
			remark: "the same with -codec=std: HTTP/1.1 by net/http",
		},
		{
			name: sluiceOther, program: "gateway", variable: otherGateway, ours: true, brief: true, launch: launchSluice, connect: true, version: []string{"-version"},
			remark: "another build, which " + otherGateway + " names",
		},
		{
			name: sluiceClassic, program: "gateway", ours: true, brief: true, only: scenarioHandshake, environment: []string{"GODEBUG=tlsmlkem=0"},
			launch: launchSluice, connect: true, version: []string{"-version"},
			remark: "with GODEBUG=tlsmlkem=0: keys are exchanged by X25519 alone, as by Envoy",
		},
		{
			name: nginx, program: "nginx", variable: "SLUICE_NGINX", debian: "nginx-light", launch: launchNginx, connect: true, version: []string{"-v"},
			remark: "2 workers; does not verify the upstream: a Connect certificate has no name that it could check",
		},
		{
			name: haproxy, program: "haproxy", variable: "SLUICE_HAPROXY", debian: "haproxy", launch: launchHaproxy, connect: true, version: []string{"-v"},
			remark: "2 threads; checks the chain, no identity",
		},
		{
			name: envoy, program: "envoy", variable: "SLUICE_ENVOY", launch: launchEnvoy, connect: true, version: []string{"--version"},
			remark: "2 workers; checks chain and exact identity",
		},
		{
			name: envoyHybrid, program: "envoy", variable: "SLUICE_ENVOY", brief: true, only: scenarioHandshake, groups: "X25519MLKEM768",
			launch: launchEnvoy, connect: true, version: []string{"--version"},
			remark: "told to exchange keys by X25519MLKEM768, as sluice does",
		},
		{
			name: traefik, program: "traefik", variable: "SLUICE_TRAEFIK", launch: launchTraefik, connect: true, version: []string{"version"},
			remark: "metrics on, file provider; checks chain and exact identity",
		},
		{
			name: fabioRepaired, program: "fabio", variable: "SLUICE_FABIO_REPAIRED", launch: launchFabioRepaired, version: []string{"-version"},
			remark: "its connection settings given in full; no Connect",
		},
		{
			name: fabio, program: "fabio", variable: "SLUICE_FABIO", launch: launchFabio, version: []string{"-version"},
			remark: "as released; no Connect",
		},
	}
}

// otherGateway is the variable that names a second build of the gateway, to be
// measured beside the first. Without it there is no row.
const otherGateway = "SLUICE_GATEWAY_OTHER"

func peerNames() []string {
	var names []string
	for _, p := range peers() {
		names = append(names, p.name)
	}
	return names
}

// locate returns the path of the peer's binary, or why there is none.
func (p peer) locate(gateway string) (path string, err error) {
	if p.ours {
		if p.variable != "" {
			gateway = os.Getenv(p.variable)
		}
		if _, err := os.Stat(gateway); err != nil {
			return "", fmt.Errorf("%w; build it with: make build", err)
		}
		return gateway, nil
	}
	folder, err := cache("peers")
	if err != nil {
		return "", err
	}
	path, err = find(p.program, p.variable, folder)
	if err == nil {
		return path, nil
	}
	if p.debian != "" {
		return "", fmt.Errorf("%w: sudo apt-get install -y %s", err, p.debian)
	}
	// tools/peers/get leaves the reason of its failure beside the binaries.
	if reason, readErr := os.ReadFile(folder + "/" + p.program + ".missing"); readErr == nil {
		return "", fmt.Errorf("%s", strings.TrimSpace(string(reason)))
	}
	return "", fmt.Errorf("%w: get it with: tools/peers/get %s", err, p.program)
}

// describe returns what the binary says of its version, in a few words.
func (p peer) describe(path string) string {
	said, err := exec.Command(path, p.version...).CombinedOutput()
	if err != nil {
		return "version unknown"
	}
	return shortVersion(string(said))
}

// shortVersion returns the first word of a text that looks like a version, or the
// beginning of the text.
func shortVersion(text string) string {
	for field := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(" \t\n/,", r) }) {
		field = strings.TrimPrefix(field, "v")
		if strings.Count(field, ".") >= 1 && field[0] >= '0' && field[0] <= '9' {
			return strings.TrimRight(field, ".")
		}
	}
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return cell(line[:min(len(line), 40)])
}

func launchSluice(p plan) (launch, error) {
	args := []string{
		"-node", "bench", "-datacenter", datacenter, "-address", p.host, "-loopback", p.host, "-consul", p.agent,
		"-port", fmt.Sprint(p.port), "-admin-port", fmt.Sprint(p.admin), "-log-level", "warn",
	}
	return launch{args: append(args, p.extra...)}, nil
}

// fabioTable is a routing table in Fabio's own words.
func fabioTable(p plan) string {
	var text strings.Builder
	for _, b := range backendPaths() {
		if !b.tls {
			fmt.Fprintf(&text, "route add %s %s http://%s/\n", b.name, b.path, p.backend(b.port))
		}
	}
	for _, r := range p.routes {
		fmt.Fprintf(&text, "route add routes %s%s http://%s/\n", r.Host, r.Path, p.backend(plainPort))
	}
	return text.String()
}

func launchFabio(p plan) (launch, error) {
	// It does not start without a page for what has no route.
	return launch{files: map[string]string{"routes": fabioTable(p), "noroute": ""}, args: append([]string{
		"-proxy.addr", p.listen(), "-ui.addr", p.adminAddress(), "-ui.access", "ro", "-log.level", "WARN",
		"-registry.backend", "file", "-registry.file.path", p.file("routes"), "-registry.file.noroutehtmlpath", p.file("noroute"),
	}, p.extra...)}, nil
}

// launchFabioRepaired says in full how connections to upstreams are kept, so that
// Fabio redials as little as its settings can make it. Version 1.5 lacks one of them.
func launchFabioRepaired(p plan) (launch, error) {
	l, err := launchFabio(p)
	for _, setting := range [][]string{
		{"-proxy.maxconn", "10000"}, {"-proxy.idleconntimeout", "90s"}, {"-proxy.keepalivetimeout", "30s"}, {"-proxy.dialtimeout", "5s"},
	} {
		if p.help == "" || strings.Contains(p.help, setting[0]) {
			l.args = append(l.args, setting...)
		}
	}
	return l, err
}

// asJSON renders a configuration; JSON is YAML too.
func asJSON(value any) (string, error) {
	content, err := json.MarshalIndent(value, "", " ")
	return string(content) + "\n", err
}
