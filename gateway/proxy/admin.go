package proxy

import (
	"bytes"
	_ "embed" // the page
	"html/template"
	"net/http"
	"time"

	"sluice/gateway/balance"
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
	// Options are those of the tag, Closed why nobody may use the route.
	Options string `json:"options,omitempty"`
	Closed  string `json:"closed,omitempty"`
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
	// Eligible and Why say whether it may be picked now, Share how much it gets.
	Eligible   bool    `json:"eligible"`
	Why        string  `json:"why"`
	Share      float64 `json:"share"`
	Datacenter string  `json:"datacenter,omitempty"`
	// Plain means that it is called without Connect.
	Plain bool `json:"plain,omitempty"`
}

// Routes returns the routing table as it is now.
func (p *Proxy) Routes() Routes {
	state := p.state.Load()
	result := Routes{Routes: []RouteState{}, Problems: state.table.Problems()}
	if result.Problems == nil {
		result.Problems = []route.Problem{}
	}
	for _, r := range state.table.Routes() {
		row := RouteState{Route: r.String(), Services: r.Services, Gone: r.Gone, Closed: r.Closed, Instances: []InstanceState{}}
		if r.Options != nil {
			row.Options = r.Options.String()
		}
		pl := state.plans[r]
		explained := pl.picker.Explain(balance.Request{Now: p.now()})
		for i := range pl.members {
			row.Instances = append(row.Instances, p.instanceState(&pl.members[i], explained.Members[i]))
		}
		result.Routes = append(result.Routes, row)
	}
	return result
}

func (p *Proxy) instanceState(m *member, e balance.MemberExplanation) InstanceState {
	verdict, allowed := "not known yet", false
	if !m.mesh() {
		verdict, allowed = "without Connect: nobody is asked", true
	} else if decision, known := p.decide(m.target.service); known {
		verdict, allowed = decision.String(), decision.Allowed
	}
	i := m.target.instance
	return InstanceState{
		Service: m.target.service, Instance: i.ServiceID, Node: i.Node, Address: i.Address, Datacenter: p.datacenterOf(&i),
		Verdict: verdict, Allowed: allowed, Avoided: !e.EjectedUntil.IsZero(), InFlight: int64(e.InFlight),
		Eligible: e.Eligible, Why: string(e.Reason), Share: e.Share, Plain: !m.mesh(),
	}
}

// RoutesHandler serves the routing table as JSON.
func (p *Proxy) RoutesHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, p.Routes())
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
