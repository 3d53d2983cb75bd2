package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"sluice/consul"
	"sluice/gateway/listen"
)

// collector gives Prometheus the counters that the parts keep themselves.
type collector struct{ g *gateway }

// listenerMetric is one value of each listener; false where it has none.
type listenerMetric struct {
	name, help string
	kind       prometheus.ValueType
	value      func(listen.Snapshot) (float64, bool)
}

func listenerMetrics() []listenerMetric {
	counter := func(name, help string, value func(listen.Snapshot) uint64) listenerMetric {
		return listenerMetric{name, help, prometheus.CounterValue, func(s listen.Snapshot) (float64, bool) { return float64(value(s)), true }}
	}
	return []listenerMetric{
		{
			"connections", "Client connections that are open.", prometheus.GaugeValue,
			func(s listen.Snapshot) (float64, bool) { return float64(s.Open), true },
		},
		counter("connections_total", "Client connections that were accepted.", func(s listen.Snapshot) uint64 { return s.Accepted }),
		counter("connections_refused_total", "Client connections beyond the limit of the listener.", func(s listen.Snapshot) uint64 { return s.Refused }),
		counter("connections_untrusted_total", "Client connections that did not come from a load balancer although all have to.", func(s listen.Snapshot) uint64 { return s.Untrusted }),
		counter("proxy_headers_refused_total", "PROXY headers that were malformed or late.", func(s listen.Snapshot) uint64 { return s.BadHeaders }),
		counter("tls_handshakes_failed_total", "TLS handshakes with clients that failed or took too long.", func(s listen.Snapshot) uint64 { return s.BadHandshakes }),
		counter("connections_cut_total", "Client connections that a stop did not wait for any longer.", func(s listen.Snapshot) uint64 { return s.Cut }),
		{
			"certificate_expiry_timestamp_seconds", "When the first certificate of the listener expires.", prometheus.GaugeValue,
			func(s listen.Snapshot) (float64, bool) { return float64(s.NotAfter.Unix()), !s.NotAfter.IsZero() },
		},
	}
}

// processMetric is one value of the process; false where the flags ask for nothing
// of the kind.
type processMetric struct {
	name, help string
	kind       prometheus.ValueType
	value      func(*gateway) (float64, bool)
}

func processMetrics() []processMetric {
	ofLog := func(name, help string, value func(*gateway) uint64) processMetric {
		return processMetric{name, help, prometheus.CounterValue, func(g *gateway) (float64, bool) {
			if g.access == nil {
				return 0, false
			}
			return float64(value(g)), true
		}}
	}
	return append(fileMetrics(), []processMetric{
		{
			"streams", "TCP connections that are carried.", prometheus.GaugeValue,
			func(g *gateway) (float64, bool) { return float64(len(g.streams.Connections())), true },
		},
		{
			"leaf_expiry_timestamp_seconds", "When the leaf of the gateway expires.", prometheus.GaugeValue,
			func(g *gateway) (float64, bool) {
				own, err := g.identity.Credentials()
				if err != nil || own.Certificate == nil || own.Certificate.Leaf == nil {
					return 0, false
				}
				return float64(own.Certificate.Leaf.NotAfter.Unix()), true
			},
		},
		ofLog("access_log_lines_total", "Lines written to the access log.", func(g *gateway) uint64 { return g.access.Counters().Written }),
		ofLog("access_log_dropped_total", "Requests that the access log had no room for.", func(g *gateway) uint64 { return g.access.Counters().Dropped }),
		ofLog("access_log_lost_total", "Lines that the access log's output did not take.", func(g *gateway) uint64 { return g.access.Counters().Lost }),
		{
			"registration_problems", "Services of register= that are not registered.", prometheus.GaugeValue,
			func(g *gateway) (float64, bool) { return float64(g.standIns.problems()), true },
		},
		{
			"override_problems", "Lines of overrides that are ignored.", prometheus.GaugeValue,
			func(g *gateway) (float64, bool) {
				if g.overrides == nil {
					return 0, false
				}
				return float64(len(g.overrides.Problems())), true
			},
		},
	}...)
}

// fileMetrics are of what the flags name and others may change.
func fileMetrics() []processMetric {
	return []processMetric{
		{
			"password_files_refused", "Password files of which what they hold now is not used, and what they held before is.", prometheus.GaugeValue,
			func(g *gateway) (float64, bool) {
				if g.auth == nil {
					return 0, false
				}
				return float64(len(g.auth.Problems())), true
			},
		},
		{
			"error_pages_refused", "1 while what the folder of error pages holds now is not used, and that before is.", prometheus.GaugeValue,
			func(g *gateway) (float64, bool) {
				if g.pages == nil {
					return 0, false
				}
				if g.pages.State().Problem != "" {
					return 1, true
				}
				return 0, true
			},
		},
		{
			"error_pages_failed_total", "Error pages that could not be made, so that clients got the gateway's own.", prometheus.CounterValue,
			func(g *gateway) (float64, bool) {
				if g.pages == nil {
					return 0, false
				}
				return float64(g.pages.State().Failed), true
			},
		},
	}
}

// datacenterMetric is one value of each datacenter that is followed, the own one
// included; false where it has none.
type datacenterMetric struct {
	name, help string
	value      func(consul.DatacenterState) (float64, bool)
}

func datacenterMetrics() []datacenterMetric {
	return []datacenterMetric{
		{
			"datacenter_stale", "1 while the datacenter cannot be asked. Its last known instances are used, if there are any.",
			func(s consul.DatacenterState) (float64, bool) {
				if s.Err != nil {
					return 1, true
				}
				return 0, true
			},
		},
		{
			"datacenter_confirmed_timestamp_seconds", "When Consul has last said which services the datacenter has; it is asked twice a minute at least.",
			func(s consul.DatacenterState) (float64, bool) { return float64(s.Confirmed.Unix()), s.Known },
		},
	}
}

// datacenters are what is known of each, by name.
func (g *gateway) datacenters() []consul.DatacenterState {
	states := g.catalog.Datacenters()
	states[0].Name = g.cfg.Datacenter
	return states
}

func (c *collector) desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(c.g.cfg.MetricsPrefix+"_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector: all that there may be.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range listenerMetrics() {
		out <- c.desc(m.name, m.help, "listener")
	}
	for _, m := range processMetrics() {
		out <- c.desc(m.name, m.help)
	}
	for _, m := range datacenterMetrics() {
		out <- c.desc(m.name, m.help, "datacenter")
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for _, s := range c.g.snapshots() {
		for _, m := range listenerMetrics() {
			if value, ok := m.value(s); ok {
				out <- prometheus.MustNewConstMetric(c.desc(m.name, m.help, "listener"), m.kind, value, s.Address)
			}
		}
	}
	for _, m := range processMetrics() {
		if value, ok := m.value(c.g); ok {
			out <- prometheus.MustNewConstMetric(c.desc(m.name, m.help), m.kind, value)
		}
	}
	for _, state := range c.g.datacenters() {
		for _, m := range datacenterMetrics() {
			if value, ok := m.value(state); ok {
				out <- prometheus.MustNewConstMetric(c.desc(m.name, m.help, "datacenter"), prometheus.GaugeValue, value, state.Name)
			}
		}
	}
}
