package proxy

import (
	"bytes"
	_ "embed" // the page
	"encoding/json"
	"html/template"
	"net/http"
	"time"

	"sluice/gateway/route"
)

//go:embed admin.html
var adminHTML string

// Routes is what the operations endpoint tells about the routing table.
type Routes struct {
	Routes   []RouteState    `json:"routes"`
	Problems []route.Problem `json:"ignored_tags"`
}

// RouteState is one route with the state of its instances.
type RouteState struct {
	Route     string          `json:"route"`
	Services  []string        `json:"services"`
	Instances []InstanceState `json:"instances"`
	// Gone is when the last healthy instance went; zero while there is one.
	Gone time.Time `json:"gone,omitzero"`
}

// InstanceState is one instance behind a route.
type InstanceState struct {
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Node     string `json:"node"`
	Address  string `json:"address"`
	// Verdict says whether the gateway may call it, and by which intention.
	Verdict string `json:"verdict"`
	Allowed bool   `json:"allowed"`
	// Avoided means that it could not be reached a moment ago.
	Avoided  bool  `json:"avoided"`
	InFlight int64 `json:"in_flight"`
}

// Routes returns the routing table as it is now.
func (p *Proxy) Routes() Routes {
	state := p.state.Load()
	result := Routes{Routes: []RouteState{}, Problems: state.table.Problems()}
	if result.Problems == nil {
		result.Problems = []route.Problem{}
	}
	for _, r := range state.table.Routes() {
		row := RouteState{Route: r.String(), Services: r.Services, Gone: r.Gone, Instances: []InstanceState{}}
		for _, instance := range r.Instances {
			row.Instances = append(row.Instances, p.instanceState(state.targets[keyOf(instance)]))
		}
		result.Routes = append(result.Routes, row)
	}
	return result
}

func (p *Proxy) instanceState(t *target) InstanceState {
	verdict, allowed := "not known yet", false
	if decision, known := p.decide(t.service()); known {
		verdict, allowed = decision.String(), decision.Allowed
	}
	return InstanceState{
		Service: t.service(), Instance: t.instance.ServiceID, Node: t.instance.Node, Address: t.instance.Address,
		Verdict: verdict, Allowed: allowed, Avoided: t.avoided(p.now()), InFlight: t.inFlight.Load(),
	}
}

// RoutesHandler serves the routing table as JSON.
func (p *Proxy) RoutesHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(p.Routes())
	})
}

// IndexHandler serves the routing table as a page that links what else the
// operations endpoint has.
func (p *Proxy) IndexHandler(node, datacenter string) http.Handler {
	t := template.Must(template.New("admin").Parse(adminHTML))
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var body bytes.Buffer
		routes := p.Routes()
		err := t.Execute(&body, struct {
			Routes                   []RouteState
			Problems                 []route.Problem
			Node, Datacenter, Prefix string
			Style                    template.CSS
		}{routes.Routes, routes.Problems, node, datacenter, p.cfg.Prefix, template.CSS(pageCSS)})
		if err != nil {
			http.Error(w, "the page cannot be made", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src '"+styleHash()+"'; base-uri 'none'; frame-ancestors 'none'")
		_, _ = w.Write(body.Bytes())
	})
}
