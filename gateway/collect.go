package main

import (
	"github.com/prometheus/client_golang/prometheus"
)

// collector gives Prometheus the counters that the parts keep themselves.
type collector struct{ g *gateway }

func (c *collector) desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(c.g.cfg.MetricsPrefix+"_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector: what there is depends on the flags.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	counter := func(name, help string, value float64, labels ...string) {
		kind := prometheus.CounterValue
		var names []string
		if len(labels) > 0 {
			names = []string{"listener"}
		}
		out <- prometheus.MustNewConstMetric(c.desc(name, help, names...), kind, value, labels...)
	}
	gauge := func(name, help string, value float64, labels ...string) {
		var names []string
		if len(labels) > 0 {
			names = []string{"listener"}
		}
		out <- prometheus.MustNewConstMetric(c.desc(name, help, names...), prometheus.GaugeValue, value, labels...)
	}
	for _, s := range c.g.snapshots() {
		gauge("connections", "Client connections that are open.", float64(s.Open), s.Address)
		counter("connections_total", "Client connections that were accepted.", float64(s.Accepted), s.Address)
		counter("connections_refused_total", "Client connections beyond the limit of the listener.", float64(s.Refused), s.Address)
		counter("connections_untrusted_total", "Client connections that did not come from a load balancer although all have to.", float64(s.Untrusted), s.Address)
		counter("proxy_headers_refused_total", "PROXY headers that were malformed or late.", float64(s.BadHeaders), s.Address)
		counter("tls_handshakes_failed_total", "TLS handshakes with clients that failed or took too long.", float64(s.BadHandshakes), s.Address)
		counter("connections_cut_total", "Client connections that a stop did not wait for any longer.", float64(s.Cut), s.Address)
		if !s.NotAfter.IsZero() {
			gauge("certificate_expiry_timestamp_seconds", "When the first certificate of the listener expires.", float64(s.NotAfter.Unix()), s.Address)
		}
	}
	gauge("streams", "TCP connections that are carried.", float64(len(c.g.streams.Connections())))
	if c.g.access != nil {
		n := c.g.access.Counters()
		counter("access_log_lines_total", "Lines written to the access log.", float64(n.Written))
		counter("access_log_dropped_total", "Requests that the access log had no room for.", float64(n.Dropped))
		counter("access_log_lost_total", "Lines that the access log's output did not take.", float64(n.Lost))
	}
	if c.g.overrides != nil {
		gauge("override_problems", "Lines of overrides that are ignored.", float64(len(c.g.overrides.Problems())))
	}
}
