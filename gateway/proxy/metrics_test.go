package proxy

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// requestsOf are the requests of a service, as they are counted and as they are timed.
func requestsOf(t *testing.T, registry *prometheus.Registry, service string) (counted, timed uint64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, series := range family.GetMetric() {
			for _, label := range series.GetLabel() {
				if label.GetName() == "service" && label.GetValue() == service {
					counted += uint64(series.GetCounter().GetValue())
					timed += series.GetHistogram().GetSampleCount()
				}
			}
		}
	}
	return counted, timed
}

// TestAServiceThatComesBackWhileItsSeriesGoHasThemAgain: a request that ends at that
// moment must not keep what nobody is told of.
func TestAServiceThatComesBackWhileItsSeriesGoHasThemAgain(t *testing.T) {
	const rounds, each, others = 200, 8, 500
	registry := prometheus.NewRegistry()
	m := newMetrics("x", registry)
	for i := range others { // so that it takes a while to look through them
		m.requests.WithLabelValues(fmt.Sprint("other-", i), "200")
	}
	for round := range rounds {
		var requests sync.WaitGroup
		begin := make(chan struct{})
		for range 2 {
			requests.Go(func() {
				<-begin
				for status := range each {
					m.request("brief", ending{status: 200 + status}, time.Millisecond)
				}
			})
		}
		close(begin)
		m.prune(nil) // no route names it
		requests.Wait()
		beforeCounted, beforeTimed := requestsOf(t, registry, "brief")
		for status := range each {
			m.request("brief", ending{status: 200 + status}, time.Millisecond)
		}
		counted, timed := requestsOf(t, registry, "brief")
		if counted != beforeCounted+each || timed != beforeTimed+each {
			t.Fatalf("round %d: of %d requests %d are counted and %d timed", round+1, each, counted-beforeCounted, timed-beforeTimed)
		}
	}
}

func TestWhatWasRefusedGoesWithItsServiceThoughNoRequestWasAnswered(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newMetrics("x", registry)
	m.one(m.denied, "brief")
	m.one(m.impostors, "stays")
	m.prune(map[string]int{"stays": 1})
	for service, want := range map[string]uint64{"brief": 0, "stays": 1} {
		if got, _ := requestsOf(t, registry, service); got != want {
			t.Errorf("%s: %d refusals are told of, want %d", service, got, want)
		}
	}
}
