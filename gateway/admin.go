package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"sluice/gateway/listen"
	"sluice/gateway/override"
	"sluice/mesh"
)

// admin makes the pages and checks of the operations endpoint.
func (g *gateway) admin() {
	g.ops.Health("identity", func(context.Context) error { return g.identity.Ready() })
	g.ops.Ready("routes", func(context.Context) error { return g.healthyRoute() })
	g.ops.Ready("stop", func(context.Context) error {
		if g.draining.Load() {
			return errors.New("the gateway is stopping")
		}
		return nil
	})
	g.ops.Handle("GET /mesh", mesh.ReportConfig{
		Credentials: []mesh.CredentialSource{g.identity},
		Policies:    []mesh.PolicyRef{{Service: name, Side: mesh.SideSource, Source: g.policy}},
		Table:       g.table,
	}.Handler())
	g.ops.Handle("GET /routes", g.proxy.RoutesHandler())
	g.ops.Handle("GET /explain", g.proxy.ExplainHandler())
	g.ops.Handle("GET /recent", g.proxy.RecentHandler())
	g.ops.Handle("GET /events", g.proxy.EventsHandler())
	g.ops.Handle("GET /timeline", g.proxy.TimelineHandler())
	g.ops.Handle("GET /config", answer(func() any { return g.cfg.Render() }))
	g.ops.Handle("GET /listeners", answer(func() any { return g.snapshots() }))
	g.ops.Handle("GET /streams", answer(func() any { return g.streams.Connections() }))
	g.ops.Handle("GET /overrides", answer(func() any { return g.overrideState() }))
	g.ops.Handle("GET /{$}", g.proxy.IndexHandler(g.cfg.Node, g.cfg.Datacenter))
	g.ops.Registry().MustRegister(&collector{g})
}

func answer(value func() any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(value())
	})
}

func (g *gateway) snapshots() []listen.Snapshot {
	list := make([]listen.Snapshot, 0, len(g.listeners))
	for _, server := range g.listeners {
		list = append(list, server.Snapshot())
	}
	return list
}

// overrideState is what the operator's keys have come to.
func (g *gateway) overrideState() any {
	state := struct {
		Key      string             `json:"key"`
		Commands int                `json:"commands"`
		Problems []override.Problem `json:"ignored_lines"`
	}{Key: g.cfg.OverrideKey, Problems: []override.Problem{}}
	if g.overrides != nil {
		if commands := g.overrides.state.Load().commands; commands != nil {
			state.Commands = commands.Len()
		}
		state.Problems = append(state.Problems, g.overrides.Problems()...)
	}
	return state
}

func (g *gateway) healthyRoute() error {
	for _, r := range g.proxy.Table().Routes() {
		if len(r.Instances) > 0 {
			return nil
		}
	}
	return errors.New("no route has a healthy instance")
}
