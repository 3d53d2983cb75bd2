package proxy

import (
	"cmp"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway/accesslog"
	"sluice/gateway/route"
	"sluice/gateway/tcp"
	"sluice/mesh"
)

type metrics struct {
	// services holds a *perService for each name.
	services sync.Map
	// mu guards what is made and taken away of the series of services, and named, the
	// services that have any. A series is looked up under it once, and then counted in
	// without it: so whatever is in services is what is told.
	mu    sync.Mutex
	named map[string]bool

	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	denied    *prometheus.CounterVec
	impostors *prometheus.CounterVec
	// forbidden is what any intention has refused, denied what a destination has.
	forbidden *prometheus.CounterVec
	ejections *prometheus.CounterVec
	connects  *prometheus.HistogramVec
	received  *prometheus.CounterVec
	sent      *prometheus.CounterVec
	streams   *prometheus.CounterVec
	retries   prometheus.Counter
	hedges    prometheus.Counter
	noBudget  prometheus.Counter
	rotations prometheus.Counter

	unauthorized prometheus.Counter
	panics       prometheus.Counter
	ignoredTags  prometheus.Counter
	quarantined  prometheus.Gauge
	routes       prometheus.Gauge
	build        prometheus.Histogram
}

func newMetrics(prefix string, registerer prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "_" + name, Help: help})
	}
	of := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "_" + name, Help: help}, labels)
	}
	m := &metrics{
		named:     map[string]bool{},
		forbidden: of("intention_denied_total", "Requests and TCP connections that an intention has refused.", "service"),
		ejections: of("ejections_total", "Ejections of instances that had failed, further ones after a trial included.", "service"),
		received:  of("request_body_bytes_total", "Bytes of the bodies of requests.", "service"),
		sent:      of("response_body_bytes_total", "Bytes of the bodies of answers.", "service"),
		streams:   of("streams_total", "TCP connections that have ended, by the flags of the access log.", "service", "flags"),
		connects: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "_connect_duration_seconds", Help: "Time of a new connection to an instance, the handshake of the mesh included; those that came about.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"service"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "_requests_total", Help: "Requests by the service that answered and the status; 0 is a client that left.",
		}, []string{"service", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "_request_duration_seconds", Help: "Time from a request's headers to the end of its response.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"service"}),
		denied:       of("denied_by_destination_total", "Calls that a destination refused by its intentions.", "service"),
		impostors:    of("wrong_identity_total", "Calls that were not made because somebody else answered at the instance's address.", "service"),
		retries:      counter("retries_total", "Requests that were tried once more on another instance."),
		hedges:       counter("hedges_total", "Requests that were sent to a second instance because the first was slow."),
		noBudget:     counter("retry_budget_exhausted_total", "Requests that were not tried again because the budget of their route was spent."),
		rotations:    counter("leaf_rotations_total", "New leaves, after which connections with the old one were retired."),
		unauthorized: counter("unauthorized_total", "Requests that were refused for want of right credentials."),
		panics:       counter("panics_total", "Requests and connections that ended in a panic, a fault of this program."),
		ignoredTags:  counter("ignored_tags_total", "Route tags that were quarantined, each once."),
		quarantined: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "_quarantined_tags", Help: "Route tags that are quarantined now.",
		}),
		routes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "_routes", Help: "Routes in the table.",
		}),
		build: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "_table_build_seconds", Help: "Time from a change of catalog or overrides, as it was heard of, to the table in use that has it.",
			Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1},
		}),
	}
	if registerer != nil {
		registerer.MustRegister(m.forbidden, m.ejections, m.received, m.sent, m.streams, m.connects, m.requests, m.duration, m.denied, m.impostors, m.retries, m.hedges, m.noBudget, m.rotations,
			m.unauthorized, m.panics, m.ignoredTags, m.quarantined, m.routes, m.build)
	}
	return m
}

// perService are the metrics of requests to one service, looked up once.
type perService struct {
	duration       prometheus.Observer
	received, sent prometheus.Counter
	codes          [600]atomic.Pointer[prometheus.Counter]
}

func (s *perService) count(counter prometheus.Counter, end ending, took time.Duration) {
	s.duration.Observe(took.Seconds())
	if end.in > 0 { // most requests have no body, and all of a service share the counter
		s.received.Add(float64(end.in))
	}
	s.sent.Add(float64(end.out))
	counter.Inc()
}

func (m *metrics) request(service string, end ending, took time.Duration) {
	if end.status < 0 || end.status >= len(perService{}.codes) {
		end.status = 0
	}
	if found, ok := m.services.Load(service); ok {
		s := found.(*perService)
		if counter := s.codes[end.status].Load(); counter != nil {
			s.count(*counter, end, took)
			return
		}
	}
	m.first(service, end, took)
}

// first is request for a service, or a status of it, that has no series yet.
func (m *metrics) first(service string, end ending, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.named[service] = true
	found, _ := m.services.LoadOrStore(service, &perService{
		duration: m.duration.WithLabelValues(service), received: m.received.WithLabelValues(service), sent: m.sent.WithLabelValues(service),
	})
	if service != "" { // so that the first ones are an increase
		m.ejections.WithLabelValues(service)
		m.forbidden.WithLabelValues(service)
	}
	s, counter := found.(*perService), m.requests.WithLabelValues(service, strconv.Itoa(end.status))
	s.codes[end.status].Store(&counter)
	s.count(counter, end, took)
}

// one counts in a series of a service that may have none yet.
func (m *metrics) one(series *prometheus.CounterVec, service string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.named[service] = true
	series.WithLabelValues(service).Inc()
}

// connected counts a connection to an instance of a service.
func (m *metrics) connected(service string, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.named[service] = true
	m.connects.WithLabelValues(service).Observe(took.Seconds())
}

// failed counts what an intention has refused.
func (m *metrics) failed(service string, err error) {
	var denied *mesh.DeniedError
	if errors.As(err, &denied) {
		m.one(m.forbidden, cmp.Or(service, denied.Decision.Destination))
	}
}

// stream counts a TCP connection that has ended.
func (m *metrics) stream(info tcp.Info, flags accesslog.Flags, err error) {
	m.failed(info.Service, err)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.named[info.Service] = true
	m.received.WithLabelValues(info.Service).Add(float64(info.BytesIn))
	m.sent.WithLabelValues(info.Service).Add(float64(info.BytesOut))
	m.streams.WithLabelValues(info.Service, flags.String()).Inc()
}

// prune takes away the series of services that no route names any more. A request that
// was under way when its last route went may bring them back, so it is looked at all
// of them. A service that is told of anew begins anew.
func (m *metrics) prune(named map[string]int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for service := range m.named {
		if service == "" || named[service] > 0 {
			continue
		}
		delete(m.named, service)
		m.services.Delete(service)
		for _, series := range []interface {
			DeletePartialMatch(prometheus.Labels) int
		}{m.requests, m.duration, m.denied, m.impostors, m.forbidden, m.ejections, m.received, m.sent, m.streams, m.connects} {
			series.DeletePartialMatch(prometheus.Labels{"service": service})
		}
	}
}

// count keeps how many routes name a service.
func (f *follower) count(changes []route.Change) {
	for _, c := range changes {
		if c.Before != nil {
			for _, service := range c.Before.Services {
				if f.named[service]--; f.named[service] == 0 {
					delete(f.named, service)
				}
			}
		}
		if c.After != nil {
			for _, service := range c.After.Services {
				f.named[service]++
			}
		}
	}
}
