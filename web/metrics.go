package main

import (
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

// upstreamMetrics shows the ways out at /metrics.
type upstreamMetrics []*mesh.Upstream

// Describe sends nothing: which metrics there are depends on the ways.
func (m upstreamMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect reads each way once.
func (m upstreamMetrics) Collect(out chan<- prometheus.Metric) {
	for _, upstream := range m {
		r := upstream.Report()
		show := func(kind prometheus.ValueType, name, help string, value float64) {
			desc := prometheus.NewDesc("web_upstream_"+name, help, []string{"destination"}, nil)
			out <- prometheus.MustNewConstMetric(desc, kind, value, r.Service)
		}
		gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
		show(gauge, "live", "Connections that are carried.", float64(r.Live))
		show(gauge, "held", "Connections that wait for an instance.", float64(r.Held))
		show(gauge, "held_oldest_seconds", "How long the oldest of them has waited.", r.OldestHeldMS/1000)
		show(gauge, "epoch", "Highest election term that was ever known.", float64(r.Epoch))
		show(counter, "held_total", "Connections that had to wait for an instance.", float64(r.Counters.Held))
		show(counter, "released_total", "Connections that reached an instance after a wait.", float64(r.Counters.Released))
		show(counter, "expired_total", "Connections that waited in vain.", float64(r.Counters.Expired))
		show(counter, "overflow_total", "Connections beyond the number that may wait.", float64(r.Counters.Overflow))
		show(counter, "probes_total", "Tries to find an instance.", float64(r.Counters.Probes))
		show(counter, "superseded_total", "Connections reset because another instance leads.", float64(r.Counters.Superseded))
		show(counter, "switches_total", "Changes of the instance.", float64(r.Counters.Switches))
	}
}
