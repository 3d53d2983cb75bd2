package fabio

import "time"

// row is what becomes of one property, or of all whose names begin with what is
// before a *. Of several rows that fit the first counts.
type row struct {
	name string
	// convert decides by the value; without it kind and reason hold for any.
	convert func(c *converter, value string)
	kind    Kind
	reason  string
}

// rows are all properties of Fabio 1.7, and those that older versions had.
func rows() []row {
	var all []row
	for _, part := range [][]row{proxyRows(), registryRows(), outputRows(), otherRows()} {
		all = append(all, part...)
	}
	return all
}

func proxyRows() []row {
	const streamed = "bodies are passed on as they come, without a buffer to flush or a limit on messages"
	return []row{
		{name: "proxy.addr", convert: (*converter).listeners},
		{name: "proxy.cs", convert: (*converter).certificates},
		{name: "proxy.auth", convert: (*converter).schemes},
		{name: "proxy.strategy", convert: oneOf("strategy", map[string]string{"rnd": "random", "rr": "rr"})},
		{name: "proxy.matcher", convert: oneOf("match", map[string]string{"prefix": "prefix", "iprefix": "iprefix", "glob": "glob"})},
		{name: "proxy.noroutestatus", convert: (*converter).noRoute},
		{name: "proxy.shutdownwait", convert: duration("drain", time.Hour)},
		{name: "proxy.responseheadertimeout", convert: (*converter).answerTimeout},
		{name: "proxy.readtimeout", convert: (*converter).listenerTimeout},
		{name: "proxy.writetimeout", convert: (*converter).listenerTimeout},
		{name: "proxy.deregistergraceperiod", convert: duration("stop-delay", time.Hour)},
		{name: "proxy.maxconn", convert: number("idle-upstream", 1, 1_000_000)},
		{name: "proxy.dialtimeout", convert: upstreamTime("dial-timeout")},
		{name: "proxy.keepalivetimeout", kind: Elsewhere, reason: "the mesh notices a vanished peer by keep-alives of its own"},
		{name: "proxy.idleconntimeout", convert: upstreamTime("keepalive-upstream")},
		{name: "proxy.localip", kind: Elsewhere, reason: "no header tells instances the gateway's address: its SPIFFE ID says who calls"},
		{name: "proxy.header.clientip", kind: Elsewhere, reason: "the client's address is in X-Forwarded-For"},
		{name: "proxy.header.requestid", convert: (*converter).requestID},
		{name: "proxy.header.tls", kind: Elsewhere, reason: "X-Forwarded-Proto says whether the client came over TLS"},
		{name: "proxy.header.tls.value", kind: Elsewhere, reason: "X-Forwarded-Proto says whether the client came over TLS"},
		{name: "proxy.header.sts.*", kind: Unsupported, reason: "Strict-Transport-Security is left to the service"},
		{name: "proxy.gzip.contenttype", kind: Unsupported, reason: "answers are not compressed by the gateway"},
		{name: "proxy.flushinterval", kind: Same, reason: streamed},
		{name: "proxy.globalflushinterval", kind: Same, reason: streamed},
		{name: "proxy.grpcmaxrxmsgsize", kind: Same, reason: streamed},
		{name: "proxy.grpcmaxtxmsgsize", kind: Same, reason: streamed},
		{name: "proxy.grpcshutdowntimeout", kind: Elsewhere, reason: "-drain holds for gRPC too"},
		{name: "proxy.timeout", kind: Dead, reason: "proxy.responseheadertimeout has taken its place"},
		{name: "proxy.log.routes", kind: Dead, reason: "log.routes.format has taken its place"},
	}
}

func registryRows() []row {
	const (
		watched  = "each service is followed by a watch of its own, and what was last known is kept"
		backend  = "routes come from tags in Consul; what is written by hand goes into the key of -override-key, where a route add to http:// or tcp:// takes -allow-plain"
		register = "the gateway registers itself, with a health check of its own, as its -node and -address say"
		page     = "the page for no route is 404.html in the folder of -error-pages"
	)
	return []row{
		{name: "registry.backend", convert: (*converter).backend},
		{name: "registry.timeout", kind: Elsewhere, reason: "the gateway starts without Consul and goes on trying"},
		{name: "registry.retry", kind: Elsewhere, reason: "the gateway starts without Consul and goes on trying"},
		{name: "registry.static.noroutehtml", kind: Unsupported, reason: page},
		{name: "registry.file.noroutehtmlpath", kind: Unsupported, reason: page},
		{name: "registry.consul.noroutehtmlpath", kind: Unsupported, reason: page},
		{name: "registry.static.*", kind: Unsupported, reason: backend},
		{name: "registry.file.*", kind: Unsupported, reason: backend},
		{name: "registry.custom.*", kind: Unsupported, reason: backend},
		{name: "registry.consul.addr", convert: (*converter).consul},
		{name: "registry.consul.token", kind: ByHand, reason: "put the token into a file of mode 0600 and name it with -token-file"},
		{name: "registry.consul.kvpath", convert: (*converter).overrides},
		{name: "registry.consul.tagprefix", convert: (*converter).prefix},
		{name: "registry.consul.service.status", convert: (*converter).status},
		{name: "registry.consul.checksRequired", convert: (*converter).checks},
		{name: "registry.consul.register.enabled", convert: (*converter).register},
		{name: "registry.consul.register.checkDeregisterCriticalServiceAfter", kind: Dead, reason: "Fabio takes no notice of it any more"},
		{name: "registry.consul.register.tags", kind: Unsupported, reason: "the gateway registers itself without tags"},
		{name: "registry.consul.register.*", kind: Elsewhere, reason: register},
		{name: "registry.consul.tls.*", kind: Unsupported, reason: "the agent is on the same node, and is asked over its loopback"},
		{name: "registry.consul.serviceMonitors", kind: Elsewhere, reason: watched},
		{name: "registry.consul.pollinterval", kind: Elsewhere, reason: watched},
		{name: "registry.consul.requireConsistent", kind: Elsewhere, reason: watched},
		{name: "registry.consul.allowStale", kind: Elsewhere, reason: watched},
		{name: "consul.*", kind: Dead, reason: "the properties registry.consul.* have taken its place"},
	}
}

func outputRows() []row {
	const pull = "metrics are for Prometheus alone, which fetches them from -admin-address"
	return []row{
		{name: "log.access.format", convert: (*converter).accessFormat},
		{name: "log.access.target", convert: (*converter).accessTarget},
		{name: "log.routes.format", kind: Elsewhere, reason: "every change of the routes is in the timeline of the operations page, with its reason"},
		{name: "log.level", convert: (*converter).logLevel},
		{name: "metrics.target", convert: (*converter).metrics},
		{name: "metrics.prefix", convert: (*converter).metricsPrefix},
		{name: "metrics.names", kind: Elsewhere, reason: "what Fabio puts into names is in labels"},
		{name: "metrics.prometheus.path", kind: Elsewhere, reason: "the path is /metrics"},
		{name: "metrics.prometheus.subsystem", kind: Unsupported, reason: "a name has a prefix (-metrics-prefix) and no subsystem"},
		{name: "metrics.prometheus.buckets", kind: Unsupported, reason: "the buckets of histograms are fixed"},
		{name: "metrics.*", kind: Unsupported, reason: pull},
		{name: "tracing.*", kind: Dead, reason: "Fabio has no tracing since 1.7.0; the gateway follows the standard variables OTEL_*"},
	}
}

func otherRows() []row {
	const colours = "the operations page looks the same everywhere"
	return []row{
		{name: "ui.addr", convert: (*converter).admin},
		{name: "ui.access", convert: (*converter).access},
		{name: "ui.color", kind: Unsupported, reason: colours},
		{name: "ui.title", kind: Unsupported, reason: colours},
		{name: "ui.routingtable.*", kind: Unsupported, reason: colours},
		{name: "runtime.gogc", kind: Elsewhere, reason: "the variable GOGC sets it"},
		{name: "runtime.gomaxprocs", kind: Elsewhere, reason: "the variable GOMAXPROCS sets it"},
		{name: "glob.matching.disabled", kind: Elsewhere, reason: "only hosts that are globs are compared as globs, and others cost nothing for it"},
		{name: "glob.cache.size", kind: Elsewhere, reason: "globs are compiled with the table"},
		{name: "profile.*", kind: Unsupported, reason: "-cpu-profile FILE writes a profile of the processor, and there is none of another kind"},
		{name: "bgp.*", kind: Unsupported, reason: "the gateway announces no routes by BGP"},
		{name: "insecure", kind: Elsewhere, reason: "the gateway does not ask whose process it is"},
		{name: "aws.apigw.cert.cn", kind: Dead, reason: "the option caupgcn of proxy.cs has taken its place"},
		{name: "cfg", kind: Dead, reason: "in a file it means nothing"},
		{name: "v", kind: Dead, reason: "in a file it means nothing"},
		{name: "version", kind: Dead, reason: "in a file it means nothing"},
	}
}
