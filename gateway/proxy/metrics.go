package proxy

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	denied      *prometheus.CounterVec
	retries     prometheus.Counter
	ignoredTags prometheus.Counter
	routes      prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_gateway_requests_total", Help: "Requests by the service that answered and the status; 0 is a client that left.",
		}, []string{"service", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sluice_gateway_request_duration_seconds", Help: "Time from a request's headers to the end of its response.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"service"}),
		denied: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_gateway_denied_by_destination_total", Help: "Calls that a destination refused by its intentions.",
		}, []string{"service"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_gateway_retries_total", Help: "Requests that were tried once more on another instance.",
		}),
		ignoredTags: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_gateway_ignored_tags_total", Help: "Route tags that were refused as malformed.",
		}),
		routes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sluice_gateway_routes", Help: "Routes in the table.",
		}),
	}
	if registerer != nil {
		registerer.MustRegister(m.requests, m.duration, m.denied, m.retries, m.ignoredTags, m.routes)
	}
	return m
}

func (m *metrics) request(service string, status int, took time.Duration) {
	m.requests.WithLabelValues(service, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(service).Observe(took.Seconds())
}
