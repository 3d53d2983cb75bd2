package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"sluice/gateway/errorpages"
	"sluice/gateway/listen"
	"sluice/gateway/override"
	"sluice/gateway/proxy"
	"sluice/internal/secret"
	"sluice/internal/service"
	"sluice/mesh"
)

// admin makes the pages and checks of the operations endpoint.
func (g *gateway) admin() error {
	token, err := g.adminToken()
	if err != nil {
		return err
	}
	g.ops.Health("identity", func(context.Context) error { return g.identity.Ready() })
	g.ops.Ready("routes", func(context.Context) error { return g.healthyRoute() })
	g.ops.Ready("stop", func(context.Context) error { return g.stopping() })
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
	g.ops.Handle("GET /datacenters", answer(func() any { return g.followed() }))
	g.ops.Handle("GET /registered", g.standIns.checkHandler())
	g.ops.Handle("GET /overrides", answer(func() any { return g.overrideState() }))
	page := g.proxy.Admin(proxy.AdminConfig{
		Node: g.cfg.Node, Datacenter: g.cfg.Datacenter, Version: service.Version(), Codec: string(g.cfg.Codec),
		Listeners: g.listenerStates, Overrides: g.overrideState, Followed: g.followed, ErrorPages: g.errorPages, Refused: g.refusedPasswords, Changes: token != nil,
	})
	g.ops.Handle("GET /{$}", page.Index())
	g.ops.Handle("GET /parts", page.Parts())
	g.ops.Handle("GET /parts/answer", page.Answer())
	g.ops.Handle("POST /drain", g.proxy.DrainHandler(token))
	g.ops.Registry().MustRegister(&collector{g})
	return nil
}

// adminToken returns what reads the token that changes take, or nil if there is
// none. The file may be replaced while the gateway runs.
func (g *gateway) adminToken() (func() (string, error), error) {
	file := g.cfg.AdminTokenFile
	if file == "" {
		return nil, nil
	}
	if _, err := secret.Read(file); err != nil {
		return nil, fmt.Errorf("-admin-token-file: %w", err)
	}
	return func() (string, error) { return secret.Read(file) }, nil
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

// listenerStates are the same for the page.
func (g *gateway) listenerStates() []proxy.ListenerState {
	var list []proxy.ListenerState
	for _, s := range g.snapshots() {
		list = append(list, proxy.ListenerState{
			Address: s.Address, Proto: string(s.Proto), Open: s.Open, MaxConn: s.MaxConn, Draining: s.Draining,
			Certificates: s.Certificates, Problem: s.Problem,
		})
	}
	return list
}

// followed is what is known of each datacenter, the own one first.
func (g *gateway) followed() []proxy.DatacenterState {
	list := []proxy.DatacenterState{}
	for i, state := range g.datacenters() {
		followed := proxy.DatacenterState{Datacenter: state.Name, Own: i == 0, Stale: state.Stale(), Confirmed: state.Confirmed}
		if state.Err != nil {
			followed.Reason = state.Err.Error()
		}
		list = append(list, followed)
	}
	return list
}

// overrideState is what the operator's keys have come to.
func (g *gateway) overrideState() proxy.OverrideState {
	state := proxy.OverrideState{Key: g.cfg.OverrideKey, Problems: []override.Problem{}}
	if g.overrides != nil {
		if commands := g.overrides.state.Load().commands; commands != nil {
			state.Commands = commands.Len()
		}
		state.Problems = append(state.Problems, g.overrides.Problems()...)
		if err := g.overrides.watch.State().Err; err != nil {
			state.Err = err.Error()
		}
	}
	return state
}

// errorPages is what the folder of error pages has come to; nil without one.
func (g *gateway) errorPages() *errorpages.State {
	if g.pages == nil {
		return nil
	}
	state := g.pages.State()
	return &state
}

// refusedPasswords are the password files that are not used as they are now.
func (g *gateway) refusedPasswords() []error {
	if g.auth == nil {
		return nil
	}
	var list []error
	problems := g.auth.Problems()
	for _, scheme := range slices.Sorted(maps.Keys(problems)) {
		list = append(list, fmt.Errorf("scheme %s: %w", scheme, problems[scheme]))
	}
	return list
}

// stopping returns an error from the signal to stop on.
func (g *gateway) stopping() error {
	if g.draining.Load() {
		return errors.New("the gateway is stopping")
	}
	return nil
}

// healthy is whether new requests should come here.
func (g *gateway) healthy() error {
	if err := g.stopping(); err != nil {
		return err
	}
	return g.identity.Ready()
}

func (g *gateway) healthyRoute() error {
	for _, r := range g.proxy.Table().Routes() {
		if len(r.Instances) > 0 {
			return nil
		}
	}
	return errors.New("no route has a healthy instance")
}
