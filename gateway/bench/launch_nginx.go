package main

import (
	"fmt"
	"strings"
)

// launchNginx makes a configuration without access log that keeps connections on
// both sides for longer than any round.
func launchNginx(p plan) (launch, error) {
	var text strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	if p.root {
		line("user root;")
	}
	line("daemon off;\nworker_processes 2;\nworker_rlimit_nofile 65536;\npid %s;\nerror_log stderr error;", p.file("nginx.pid"))
	line("events { worker_connections 20000; }\nhttp {")
	line("access_log off;\nkeepalive_timeout 600s;\nkeepalive_requests 1000000000;")
	line("server_names_hash_max_size 65536;\nserver_names_hash_bucket_size 128;")
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		line("%s_temp_path %s;", kind, p.file(kind))
	}
	line("proxy_http_version 1.1;\nproxy_set_header Connection \"\";\nproxy_set_header Host $http_host;")
	line("proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;")
	line("proxy_ssl_certificate %s;\nproxy_ssl_certificate_key %s;", p.credentials.certificate, p.credentials.key)
	line("proxy_ssl_verify off;\nproxy_ssl_session_reuse off;\nproxy_ssl_protocols TLSv1.3;")
	for _, b := range backendPaths() {
		line("upstream %s { server %s; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 600s; }", b.name, p.backend(b.port))
	}
	line("server {\nlisten %s default_server;", p.listen())
	for _, b := range backendPaths() {
		scheme := "http"
		if b.tls {
			scheme = "https"
		}
		line("location %s { proxy_pass %s://%s; }", b.path, scheme, b.name)
	}
	line("}")
	for i, r := range p.routes {
		if i == 0 || p.routes[i-1].Host != r.Host {
			line("server {\nlisten %s;\nserver_name %s;", p.listen(), r.Host)
		}
		line("location %s { proxy_pass http://plain; }", r.Path)
		if i == len(p.routes)-1 || p.routes[i+1].Host != r.Host {
			line("}")
		}
	}
	line("}")
	return launch{
		files: map[string]string{"nginx.conf": text.String()},
		args:  append([]string{"-p", p.folder, "-e", "stderr", "-c", p.file("nginx.conf")}, p.extra...),
	}, nil
}
