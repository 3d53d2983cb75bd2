package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/route"
)

// Absent is an instance that the catalog holds for unhealthy.
type Absent struct {
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Node     string `json:"node"`
	Address  string `json:"address"`
	// Why is the check that fails, with its output.
	Why string `json:"why"`
}

// Question is a request of which it is asked what would become of it.
type Question struct {
	Method, URL string
	// Client is who would ask; the zero Addr is 127.0.0.1.
	Client netip.Addr
}

// Explained tells what would become of a request: which host, which path, which
// route, who may use it, and which instances could get it.
type Explained struct {
	Method string `json:"method"`
	Host   string `json:"host"`
	Path   string `json:"path"`
	Client string `json:"client"`
	// Verdict is the result in one sentence, and Status the answer that the gateway
	// would give by itself; 0 is that an instance answers.
	Verdict string            `json:"verdict"`
	Status  int               `json:"status,omitempty"`
	Lookup  route.Explanation `json:"lookup"`
	Route   string            `json:"route,omitempty"`
	Options string            `json:"options,omitempty"`
	// Credentials are the schemes that a client must satisfy.
	Credentials []string      `json:"credentials,omitempty"`
	Strategy    string        `json:"strategy,omitempty"`
	Timeout     time.Duration `json:"timeout_ns,omitempty"`
	Attempts    int           `json:"attempts,omitempty"`
	BudgetLeft  int           `json:"budget_left,omitempty"`
	// Panic means that so many instances are ejected that they are used again.
	Panic     bool            `json:"panic,omitempty"`
	Instances []InstanceState `json:"instances"`
	Absent    []Absent        `json:"absent,omitempty"`
	// NotFollowed are the datacenters of dc= whose instances the gateway does not know.
	NotFollowed []string `json:"datacenters_not_followed,omitempty"`
	// Registered are the services of register=.
	Registered []Registered `json:"registered,omitempty"`
	// Ignored are quarantined tags: those of the route's services, or the first of
	// all if no route takes the request.
	Ignored []route.Problem `json:"ignored_tags,omitempty"`
}

// Explain tells what would become of a request now. It changes nothing.
func (p *Proxy) Explain(ctx context.Context, q Question) (Explained, error) {
	if address, ok := strings.CutPrefix(q.URL, "tcp://"); ok {
		return p.explainStream(ctx, q, strings.TrimSuffix(address, "/")), nil
	}
	x, err := exchangeFor(q)
	if err != nil {
		return Explained{}, err
	}
	state := p.state.Load()
	e := Explained{
		Method: x.method, Host: x.host, Path: x.path, Client: x.client.String(), Instances: []InstanceState{},
		Lookup: state.table.Explain(x.host, x.path),
	}
	e.Path, e.Lookup.Path = p.mask.Target(e.Path), p.mask.Target(e.Lookup.Path)
	answer := p.admit(ctx, x, "")
	if x.plan != nil {
		p.explainPlan(ctx, x, &e)
	}
	e.Ignored = ignoredTags(state.table.Problems(), x.plan)
	switch {
	case answer != nil && len(e.Credentials) > 0 && answer.Status == http.StatusUnauthorized:
		e.Status, e.Verdict = answer.Status, "The client has to show credentials: "+strings.Join(e.Credentials, ", ")+"."
	case answer != nil:
		e.Status, e.Verdict = answer.Status, answer.Reason
	default:
		e.judge()
	}
	return e, nil
}

// exchangeFor makes the exchange of a request that nobody has sent.
func exchangeFor(q Question) (*exchange, error) {
	text := q.URL
	if !strings.Contains(text, "://") {
		text = "http://" + strings.TrimPrefix(text, "//")
		if strings.HasPrefix(q.URL, "/") {
			text = "http://-" + q.URL
		}
	}
	u, err := url.Parse(text)
	if err != nil {
		var wrong *url.Error // it holds the whole URL, with what is secret in it
		if errors.As(err, &wrong) {
			err = wrong.Err
		}
		return nil, fmt.Errorf("explain: the URL cannot be read: %w", err)
	}
	host := u.Host
	if host == "-" {
		host = ""
	}
	path := u.Path
	if path == "" {
		path = "/"
	}
	if q.Method == "" {
		q.Method = http.MethodGet
	}
	if !q.Client.IsValid() {
		q.Client = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	x := &exchange{ask: ask{
		method: q.Method, host: host, raw: u.EscapedPath(), path: path, query: u.RawQuery, hasQuery: u.RawQuery != "",
		peer: q.Client, client: q.Client, tls: u.Scheme == "https",
	}}
	x.begin("", time.Now())
	return x, nil
}

func (p *Proxy) explainPlan(ctx context.Context, x *exchange, e *Explained) {
	pl := x.plan
	e.Route, e.Options, e.Credentials = pl.name, pl.options.String(), pl.schemes
	e.Strategy, e.Timeout, e.Attempts = string(pl.options.Strategy), pl.timeout, pl.attempts
	if e.Strategy == "" {
		e.Strategy = string(p.cfg.Strategy)
	}
	e.BudgetLeft = x.budget(p).Left(p.now())
	explained := pl.picker.Explain(balance.Request{Now: p.now()})
	e.Panic, e.NotFollowed, e.Registered = explained.Panic, p.notFollowed(pl), p.registeredFor(pl.route)
	for i := range pl.members {
		e.Instances = append(e.Instances, p.instanceState(&pl.members[i], explained.Members[i]))
	}
	e.Instances = append(e.Instances, p.withoutShare(pl)...)
	if p.cfg.Absent == nil {
		return
	}
	for _, service := range pl.route.Services {
		absent, err := p.cfg.Absent(ctx, service)
		if err != nil {
			absent = []Absent{{Service: service, Why: "not known: " + err.Error()}}
		}
		e.Absent = append(e.Absent, absent...)
	}
}

// judge says in one sentence who would answer.
func (e *Explained) judge() {
	eligible, denied, impostor := 0, "", ""
	for _, i := range e.Instances {
		switch {
		case i.Eligible && i.Allowed && i.Impostor != "":
			impostor = i.Instance + ": " + i.Impostor
		case i.Eligible && i.Allowed:
			eligible++
		case i.Eligible && denied == "":
			denied = i.Verdict
		}
	}
	switch {
	case eligible > 0 && impostor != "":
		e.Verdict = fmt.Sprintf("One of %d instances answers, or the request is refused. %s.", eligible, impostor)
	case impostor != "":
		e.Status, e.Verdict = http.StatusForbidden, "The call is refused. "+impostor+"."
	case eligible == 1:
		e.Verdict = "The only eligible instance answers."
	case eligible > 1:
		e.Verdict = fmt.Sprintf("One of %d instances answers.", eligible)
	case denied != "":
		e.Status, e.Verdict = http.StatusForbidden, "The call is "+denied+"."
	default:
		e.Status, e.Verdict = http.StatusServiceUnavailable, "No instance can take it."
		if len(e.NotFollowed) > 0 {
			e.Verdict = "No instance can take it; " + strings.Join(e.NotFollowed, ", ") + ": " + otherNotFollowed + "."
		}
	}
}

// otherNotFollowed is what explanations and the admin page say of a datacenter.
const otherNotFollowed = "other datacenter, not followed (neither -failover-datacenters nor -datacenters names it)"

// notFollowed returns the datacenters of the route's dc= in which the gateway looks
// for nobody.
func (p *Proxy) notFollowed(pl *plan) []string {
	var names []string
	for _, dc := range pl.options.Datacenters {
		if dc != p.cfg.Datacenter && !slices.Contains(p.cfg.Datacenters, dc) {
			names = append(names, dc)
		}
	}
	return names
}

// ignoredTags are the quarantined tags that may explain what became of a request.
func ignoredTags(problems []route.Problem, pl *plan) []route.Problem {
	const most = 20
	var list []route.Problem
	for _, problem := range problems {
		if len(list) < most && (pl == nil || slices.Contains(pl.route.Services, problem.Service)) {
			list = append(list, problem)
		}
	}
	return list
}

// ExplainHandler serves GET with url= (and method=, client=) for what would become
// of a request, or id= for what became of one.
func (p *Proxy) ExplainHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if id := query.Get("id"); id != "" {
			trace, ok := p.Trace(id)
			if !ok {
				http.Error(w, "no such request among the last 1024 and the last 64 that failed", http.StatusNotFound)
				return
			}
			writeJSON(w, trace)
			return
		}
		if query.Get("url") == "" {
			http.Error(w, "want ?url=URL, or ?id=REQUEST-ID", http.StatusBadRequest)
			return
		}
		client, err := clientIn(query)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		explained, err := p.Explain(r.Context(), Question{query.Get("method"), query.Get("url"), client})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		writeJSON(w, explained)
	})
}

// clientIn reads client=; the zero Addr is that there is none. One that is no
// address is refused: the answer for another client would be believed.
func clientIn(query url.Values) (netip.Addr, error) {
	text := strings.TrimSpace(query.Get("client"))
	if text == "" {
		return netip.Addr{}, nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("client=%.60q: want an IP address", text)
	}
	return addr, nil
}

// RecentHandler serves the last requests, the newest first.
func (p *Proxy) RecentHandler() http.Handler {
	const most = 100
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, p.Recent(most)) })
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(value)
}
