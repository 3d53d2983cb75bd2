package proxy

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway/balance"
)

// instanceMetrics gives Prometheus what is known about each instance, and what is left of
// the budgets of retries. It is read when somebody asks, and so has a series for as long
// as there is what it is about.
type instanceMetrics struct {
	p                                   *Proxy
	inFlight, available, attempts, left *prometheus.Desc
}

func newInstanceMetrics(p *Proxy) *instanceMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(p.cfg.MetricsPrefix+"_"+name, help, labels, nil)
	}
	// "instance" is Prometheus' own name for the gateway.
	which := []string{"service", "datacenter", "node", "instance_id", "address"}
	return &instanceMetrics{
		p:         p,
		inFlight:  desc("instance_requests_in_flight", "Requests and TCP connections that the instance has at this moment.", which...),
		available: desc("instance_available", "1 while the instance may be picked; 0 while it is ejected, on trial, or draining.", which...),
		attempts:  desc("instance_attempts_total", "Attempts at the instance by what became of them.", append(which, "outcome")...),
		left:      desc("retry_budget_left", "Further attempts that the budget has now, of the service's route that has the fewest.", "service"),
	}
}

// Describe implements prometheus.Collector.
func (m *instanceMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{m.inFlight, m.available, m.attempts, m.left} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (m *instanceMetrics) Collect(out chan<- prometheus.Metric) {
	state, now, told := m.p.state.Load(), m.p.now(), map[[5]string]bool{}
	for _, t := range state.targets {
		i, status := &t.instance, t.endpoint.Status(now)
		which := [5]string{t.service, m.p.datacenterOf(i), i.Node, i.ServiceID, i.Address}
		if status.Gone || told[which] { // a table's instances include those that went with it
			continue
		}
		told[which] = true
		available := 0.0
		if status.EjectedUntil.IsZero() && !status.Draining {
			available = 1
		}
		out <- prometheus.MustNewConstMetric(m.inFlight, prometheus.GaugeValue, float64(status.InFlight), which[:]...)
		out <- prometheus.MustNewConstMetric(m.available, prometheus.GaugeValue, available, which[:]...)
		for outcome := range t.outcomes {
			word := outcomeLabel(balance.Outcome(outcome))
			out <- prometheus.MustNewConstMetric(m.attempts, prometheus.CounterValue, float64(t.outcomes[outcome].Load()), append(which[:], word)...)
		}
	}
	for service, left := range m.p.budgets(state) {
		out <- prometheus.MustNewConstMetric(m.left, prometheus.GaugeValue, float64(left), service)
	}
}

// budgets returns what is left of the budgets of the routes that had requests: the least,
// by service.
func (p *Proxy) budgets(state *snapshot) map[string]int {
	least := map[string]int{}
	for _, r := range state.table.Routes() {
		spending := planOf(r).spending.Load()
		if spending == nil {
			continue
		}
		left := spending.Left(p.now())
		for _, service := range r.Services {
			known, ok := least[service]
			if !ok {
				known = math.MaxInt
			}
			least[service] = min(known, left)
		}
	}
	return least
}

// outcomeLabel is an outcome as a label.
func outcomeLabel(o balance.Outcome) string {
	switch o {
	case balance.Success:
		return "success"
	case balance.OriginFailure:
		return "failed_answer"
	case balance.LocalFailure:
		return "failed_connection"
	case balance.Policy:
		return "refused_by_policy"
	case balance.Deferred:
		return "deferred"
	}
	return "given_up"
}
