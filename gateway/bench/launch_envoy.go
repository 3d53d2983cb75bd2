package main

import "fmt"

const envoyTypes = "type.googleapis.com/envoy.extensions."

// launchEnvoy makes a static bootstrap configuration, in JSON.
func launchEnvoy(p plan) (launch, error) {
	clusters := []object{}
	for _, b := range backendPaths() {
		clusters = append(clusters, envoyCluster(p, b))
	}
	manager := object{
		"@type":       envoyTypes + "filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": "in",
		"route_config": object{
			"virtual_hosts": envoyHosts(p.routes),
		},
		"http_filters": []object{{"name": "router", "typed_config": object{"@type": envoyTypes + "filters.http.router.v3.Router"}}},
	}
	text, err := asJSON(object{
		"admin": object{"address": envoyAddress(p.host, p.admin)},
		"static_resources": object{
			"listeners": []object{{
				"name": "in", "address": envoyAddress(p.host, p.port),
				"filter_chains": []object{{"filters": []object{{"name": "http", "typed_config": manager}}}},
			}},
			"clusters": clusters,
		},
	})
	return launch{
		files: map[string]string{"envoy.json": text},
		args:  append([]string{"-c", p.file("envoy.json"), "--concurrency", "2", "--disable-hot-restart", "-l", "error"}, p.extra...),
	}, err
}

func envoyAddress(host string, port int) object {
	return object{"socket_address": object{"address": host, "port_value": port}}
}

// envoyHosts returns the virtual hosts: one for each host of the routes, and one
// for every other.
func envoyHosts(routes []hostRoute) []object {
	var hosts []object
	to := func(prefix, cluster string) object {
		return object{"match": object{"prefix": prefix}, "route": object{"cluster": cluster, "timeout": "60s"}}
	}
	for i, r := range routes {
		if i == 0 || routes[i-1].Host != r.Host {
			hosts = append(hosts, object{"name": fmt.Sprintf("h%d", i), "domains": []string{r.Host}, "routes": []object{}})
		}
		last := hosts[len(hosts)-1]
		last["routes"] = append(last["routes"].([]object), to(r.Path, "plain"))
	}
	rest := []object{}
	for _, b := range backendPaths() {
		rest = append(rest, to(b.path, b.name))
	}
	return append(hosts, object{"name": "any", "domains": []string{"*"}, "routes": rest})
}

func envoyCluster(p plan, b backendPath) object {
	cluster := object{
		"name": b.name, "type": "STATIC", "connect_timeout": "5s",
		"load_assignment": object{"cluster_name": b.name, "endpoints": []object{{"lb_endpoints": []object{
			{"endpoint": object{"address": envoyAddress(p.host, b.port)}},
		}}}},
	}
	if b.tls {
		parameters := object{"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
		if p.groups != "" {
			parameters["ecdh_curves"] = []string{p.groups}
		}
		cluster["transport_socket"] = object{"name": "tls", "typed_config": object{
			"@type": envoyTypes + "transport_sockets.tls.v3.UpstreamTlsContext",
			// A kept session would spare it the handshake that scenario handshake is about.
			"max_session_keys": 0,
			"common_tls_context": object{
				"tls_params": parameters,
				"tls_certificates": []object{{
					"certificate_chain": object{"filename": p.credentials.certificate},
					"private_key":       object{"filename": p.credentials.key},
				}},
				"validation_context": object{
					"trusted_ca": object{"filename": p.credentials.roots},
					"match_typed_subject_alt_names": []object{
						{"san_type": "URI", "matcher": object{"exact": p.credentials.upstream}},
					},
				},
			},
		}}
	}
	return cluster
}
