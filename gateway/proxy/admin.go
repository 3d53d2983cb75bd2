package proxy

import (
	"cmp"
	"net/http"
	"strings"
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/route"
)

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
	// Strategy is how its instances are picked.
	Strategy string `json:"strategy,omitempty"`
	Closed   string `json:"closed,omitempty"`
	// NotFollowed says which datacenters of dc= the gateway does not know; "" if none.
	NotFollowed string `json:"not_followed,omitempty"`
	// Registered are the services of register=.
	Registered []Registered `json:"registered,omitempty"`
	// Gone is when the last healthy instance went; zero while there is one.
	Gone time.Time `json:"gone,omitzero"`
}

// InstanceState is one instance behind a route.
type InstanceState struct {
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Node     string `json:"node"`
	Address  string `json:"address"`
	// Identity is the SPIFFE ID that it has to prove; "" for a plain one.
	Identity string `json:"identity,omitempty"`
	// Impostor is who answered at its address instead, the last time; "" if it did itself.
	Impostor string `json:"impostor,omitempty"`
	// Verdict says whether the gateway may call it, and by which intention.
	Verdict string `json:"verdict"`
	Allowed bool   `json:"allowed"`
	// Deferred means that it has answered with a 503 that says when to come back, and not
	// succeeded since. DeferringFor is for how much longer strategies go by that.
	Deferred     bool          `json:"deferred,omitempty"`
	DeferringFor time.Duration `json:"deferring_for_ns,omitempty"`
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
	// Draining means that somebody asked for it to be picked no more.
	Draining bool `json:"draining,omitempty"`
	// PerSecond, P50, P99 and Failed are of its last minute, of all routes together:
	// attempts, the time to the head of the answer, and those that failed.
	PerSecond float64       `json:"requests_per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
	Failed    uint64        `json:"failed_last_minute"`
}

// Routes returns the routing table as it is now.
func (p *Proxy) Routes() Routes {
	state := p.state.Load()
	result := Routes{Routes: []RouteState{}, Problems: state.table.Problems()}
	if result.Problems == nil {
		result.Problems = []route.Problem{}
	}
	for _, r := range state.table.Routes() {
		result.Routes = append(result.Routes, p.routeState(state, r, len(r.Instances)))
	}
	return result
}

// routeState tells about a route and at most so many of its instances.
func (p *Proxy) routeState(state *snapshot, r *route.Route, most int) RouteState {
	row := RouteState{Route: r.String(), Services: r.Services, Gone: r.Gone, Closed: r.Closed, Instances: []InstanceState{}}
	pl := planOf(r)
	if r.Options != nil {
		row.Options = r.Options.String()
		row.Strategy = string(cmp.Or(r.Options.Strategy, p.cfg.Strategy))
	}
	if row.Closed == "" {
		row.Closed = pl.closed
	}
	if names := p.notFollowed(pl); len(names) > 0 {
		row.NotFollowed = strings.Join(names, ", ") + ": " + otherNotFollowed
	}
	row.Registered = p.registeredFor(r)
	explained := pl.picker.Explain(balance.Request{Now: p.now()})
	for i := range pl.members[:min(most, len(pl.members))] {
		row.Instances = append(row.Instances, p.instanceState(&pl.members[i], explained.Members[i]))
	}
	for _, i := range p.withoutShare(pl) {
		if len(row.Instances) < most {
			row.Instances = append(row.Instances, i)
		}
	}
	return row
}

// withoutShare tells of the instances to which the route's weights leave nothing.
func (p *Proxy) withoutShare(pl *plan) []InstanceState {
	var list []InstanceState
	for _, t := range pl.route.Targets {
		if t.Share != 0 || t.Options.RedirectCode != 0 {
			continue
		}
		verdict, allowed := p.verdict(t.Service, t.Options.Plain)
		state := InstanceState{
			Service: t.Service, Instance: t.Instance.ServiceID, Node: t.Instance.Node, Address: t.Instance.Address, Datacenter: p.datacenterOf(t.Instance),
			Verdict: verdict, Allowed: allowed, Why: noShare, Plain: t.Options.Plain,
		}
		if !t.Options.Plain {
			state.Identity = t.Instance.ID.String()
		}
		list = append(list, state)
	}
	return list
}

// noShare is why an instance is not picked whose share is 0.
const noShare = "share 0: the weights of the route leave it nothing"

// verdict says whether the gateway may call a service, and by which intention.
func (p *Proxy) verdict(service string, plain bool) (verdict string, allowed bool) {
	if plain {
		return "without Connect: nobody is asked", true
	}
	if decision, known := p.decide(service); known {
		return decision.String(), decision.Allowed
	}
	return "not known yet", false
}

func (p *Proxy) instanceState(m *member, e balance.MemberExplanation) InstanceState {
	verdict, allowed := p.verdict(m.target.service, !m.mesh())
	i := m.target.instance
	minute := m.target.recent.Summary(p.now())
	state := InstanceState{
		Service: m.target.service, Instance: i.ServiceID, Node: i.Node, Address: i.Address, Datacenter: p.datacenterOf(&i),
		Verdict: verdict, Allowed: allowed, Avoided: !e.EjectedUntil.IsZero(), InFlight: int64(e.InFlight),
		Eligible: e.Eligible, Why: string(e.Reason), Share: e.Share, Plain: !m.mesh(), Deferred: e.Deferred, DeferringFor: e.DeferringFor,
		Draining: e.Draining, PerSecond: minute.PerSecond, P50: minute.P50, P99: minute.P99, Failed: minute.Failed,
	}
	if e.Reason == balance.Ejected {
		state.Why += ", until " + e.EjectedUntil.UTC().Format(time.TimeOnly) + " UTC"
	}
	if state.Deferred {
		state.Why += "; " + deferralText(state.DeferringFor)
	}
	if m.mesh() {
		state.Identity, state.Impostor = i.ID.String(), m.target.impostorText()
		if state.Impostor != "" {
			state.Why += "; " + state.Impostor
		}
	}
	return state
}

// RoutesHandler serves the routing table as JSON.
func (p *Proxy) RoutesHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, p.Routes())
	})
}
