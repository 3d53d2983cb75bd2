package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/service"
	"sluice/mesh"
	"sluice/mongo-agent/role"
)

// reports adds what the agent shows to the operations endpoint.
func (a *agent) reports(ops *service.Ops) {
	ops.Health("mongod", func(context.Context) error { return a.followed() })
	ops.Ready("role", func(context.Context) error { return a.serving() })
	for _, name := range a.services() {
		ops.Ready("identity "+name, func(context.Context) error {
			_, err := a.network.Credentials[name].Credentials()
			return err
		})
		ops.Ready("intentions for "+name, func(context.Context) error {
			if _, ok := a.network.Policies[name].Policy(); !ok {
				return errors.New("none have arrived: everybody is refused")
			}
			return nil
		})
	}
	ops.Handle("GET /role", http.HandlerFunc(a.serveRole))
	a.operations(ops)
	ops.Handle("GET /mesh", a.meshReport().Handler())
	a.metrics(ops.Registry())
}

// services returns the names that the agent serves, or would serve.
func (a *agent) services() []string {
	return slices.Sorted(maps.Keys(a.network.Credentials))
}

// followed returns nil while mongod answers, whatever its role is.
func (a *agent) followed() error {
	s, _ := a.board.Snapshot()
	if s.State == role.Unknown || s.State == role.Dead {
		return fmt.Errorf("%s: %s", s.State, s.Reason)
	}
	return nil
}

func (a *agent) serving() error {
	s, _ := a.board.Snapshot()
	if !s.State.Served() {
		return fmt.Errorf("%s: %s", s.State, s.Reason)
	}
	return nil
}

func (a *agent) meshReport() mesh.ReportConfig {
	report := mesh.ReportConfig{Table: a.table}
	for _, name := range a.services() {
		report.Credentials = append(report.Credentials, a.network.Credentials[name])
		report.Policies = append(report.Policies, mesh.PolicyRef{
			Service: name, Side: mesh.SideDestination, Source: a.network.Policies[name],
		})
	}
	report.Policies = append(report.Policies, mesh.PolicyRef{
		Service: replService, Side: mesh.SideSource, Source: a.network.ReplSource,
	})
	return report
}

func (a *agent) metrics(registry *prometheus.Registry) {
	for s := role.Unknown; s <= role.Dead; s++ {
		labels := prometheus.Labels{"role": s.String()}
		registry.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "mongo_agent_role", Help: "1 for the role that the member has.", ConstLabels: labels,
			}, func() float64 {
				if now, _ := a.board.Snapshot(); now.State == s {
					return 1
				}
				return 0
			}),
			prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name: "mongo_agent_transitions_total", Help: "Changes into a role.", ConstLabels: labels,
			}, func() float64 { return a.board.transitionsTo(s) }),
		)
	}
	registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "mongo_agent_term", Help: "Newest election term that the member has spoken of.",
		}, func() float64 { now, _ := a.board.Snapshot(); return float64(now.Term) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "mongo_agent_connections", Help: "Live connections of the mesh, both directions.",
		}, func() float64 { return float64(len(a.table.Connections())) }),
	)
	a.failoverMetrics(registry)
	counters := map[string]func(mesh.Counters) uint64{
		"accepted": func(c mesh.Counters) uint64 { return c.Accepted },
		"denied":   func(c mesh.Counters) uint64 { return c.Denied },
		"cut":      func(c mesh.Counters) uint64 { return c.Cut },
		"dialled":  func(c mesh.Counters) uint64 { return c.Dialled },
	}
	for what, value := range counters {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "mongo_agent_connections_" + what + "_total", Help: "Connections of the mesh that were " + what + ".",
		}, func() float64 { return float64(value(a.table.Counters())) }))
	}
}

func (a *agent) failoverMetrics(registry *prometheus.Registry) {
	gauge := func(name, help string, value func() float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	one := func(yes bool) float64 {
		if yes {
			return 1
		}
		return 0
	}
	gauge("mongo_agent_primaries", "Members that say they are primary; more than 1 is an alarm.", func() float64 {
		view, _ := a.circle.View()
		return float64(len(a.primaries(view)))
	})
	gauge("mongo_agent_peers_lost", "Other agents that do not answer.", func() float64 {
		view, _ := a.circle.View()
		return float64(len(view.Lost()))
	})
	gauge("mongo_agent_fenced", "1 while a primary is not served.", func() float64 {
		s, _ := a.board.Snapshot()
		return one(s.Fence != "")
	})
	gauge("mongo_agent_lease_seconds", "How long the confirmation by a majority of the agents still holds.", func() float64 {
		return max(a.lease.left().Seconds(), 0)
	})
	for _, outcome := range []string{electionWon, electionRefused, electionFailed} {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "mongo_agent_elections_total", Help: "Elections that this agent has asked for.",
			ConstLabels: prometheus.Labels{"outcome": outcome},
		}, func() float64 { return a.record.outcomes(outcome) }))
	}
}
