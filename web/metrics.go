package main

import (
	"crypto/x509"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/mesh"
)

// requestMetrics are those of the requests that were answered.
type requestMetrics struct{ *prometheus.HistogramVec }

func newRequestMetrics() requestMetrics {
	return requestMetrics{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "web_http_request_duration_seconds", Help: "How long requests took, without streams, by part of web and status.",
		Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
	}, []string{"app", "code"})}
}

func (m requestMetrics) served(app string, status int, took time.Duration) {
	m.WithLabelValues(app, strconv.Itoa(status)).Observe(took.Seconds())
}

// waitMetrics are how long operations waited for a connection to the database.
type waitMetrics struct{ *prometheus.HistogramVec }

func newWaitMetrics() waitMetrics {
	return waitMetrics{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "web_mongo_pool_checkout_duration_seconds", Help: "How long operations waited for a connection that they got.",
		Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 10},
	}, []string{"destination"})}
}

func (m waitMetrics) of(service string) func(time.Duration) {
	waited := m.WithLabelValues(service)
	return func(d time.Duration) { waited.Observe(d.Seconds()) }
}

// edgeMetrics shows the ways out and the own identity at /metrics. Its only label is
// the destination, of which there are two.
type edgeMetrics struct{ *edge }

// Describe sends nothing: which metrics there are depends on the ways.
func (m edgeMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect reads each way once.
func (m edgeMetrics) Collect(out chan<- prometheus.Metric) {
	if own, err := m.identity.Credentials(); err == nil && own.Certificate != nil {
		expiry(out, "web_leaf_expiry_timestamp_seconds", "When the own leaf expires.", own.Certificate.Leaf)
	}
	for _, way := range m.ways {
		way.collect(out, m.dialer.Dials(way.upstream.Report().Service))
	}
}

func expiry(out chan<- prometheus.Metric, name, help string, leaf *x509.Certificate, labels ...string) {
	if leaf == nil {
		return
	}
	var names []string
	if len(labels) > 0 {
		names = []string{"destination"}
	}
	out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), prometheus.GaugeValue, float64(leaf.NotAfter.Unix()), labels...)
}

func (w way) collect(out chan<- prometheus.Metric, dials mesh.DialCounts) {
	r, p := w.upstream.Report(), w.store.Pool()
	show := func(kind prometheus.ValueType, name, help string, value float64) {
		desc := prometheus.NewDesc("web_"+name, help, []string{"destination"}, nil)
		out <- prometheus.MustNewConstMetric(desc, kind, value, r.Service)
	}
	labelled := func(name, label, help string, values map[string]uint64) {
		desc := prometheus.NewDesc("web_"+name, help, []string{"destination", label}, nil)
		for value, count := range values {
			out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(count), r.Service, value)
		}
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	show(gauge, "upstream_live", "Connections that are carried.", float64(r.Live))
	show(gauge, "upstream_held", "Connections that wait for an instance.", float64(r.Held))
	show(gauge, "upstream_held_oldest_seconds", "How long the oldest of them has waited.", r.OldestHeldMS/1000)
	show(gauge, "upstream_epoch", "Highest election term that was ever known.", float64(r.Epoch))
	show(counter, "upstream_held_total", "Connections that had to wait for an instance.", float64(r.Counters.Held))
	show(counter, "upstream_released_total", "Connections that reached an instance after a wait.", float64(r.Counters.Released))
	show(counter, "upstream_expired_total", "Connections that waited in vain.", float64(r.Counters.Expired))
	show(counter, "upstream_overflow_total", "Connections beyond the number that may wait.", float64(r.Counters.Overflow))
	show(counter, "upstream_probes_total", "Tries to find an instance.", float64(r.Counters.Probes))
	show(counter, "upstream_superseded_total", "Connections reset because another instance leads.", float64(r.Counters.Superseded))
	show(counter, "upstream_switches_total", "Changes of the instance.", float64(r.Counters.Switches))
	labelled("upstream_dials_total", "result", "Connections that were dialled over the mesh.",
		map[string]uint64{"ok": dials.Dialled, "denied": dials.Denied, "failed": dials.Failed})
	if _, leaf, ok := w.upstream.Last(); ok {
		expiry(out, "web_upstream_leaf_expiry_timestamp_seconds", "When the leaf expires that the destination presented last.", leaf, r.Service)
	}
	show(gauge, "mongo_pool_connections", "Connections of the driver's pool.", float64(p.Open))
	show(gauge, "mongo_pool_in_use", "Those that operations have.", float64(p.InUse))
	show(counter, "mongo_pool_created_total", "Connections that were made.", float64(p.Created))
	show(counter, "mongo_pool_closed_total", "Connections that were closed.", float64(p.Closed))
	show(counter, "mongo_pool_cleared_total", "Times that all connections were given up because one had failed.", float64(p.Cleared))
	labelled("mongo_pool_checkout_failures_total", "reason", "Operations that got no connection.", p.Failed)
}
