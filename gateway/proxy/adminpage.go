package proxy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sluice/gateway/errorpages"
	"sluice/gateway/override"
	"sluice/gateway/route"
	"sluice/gateway/tlsfiles"
)

//go:embed admin.html
var adminHTML string

//go:embed admin.css
var adminCSS string

//go:embed admin.js
var adminJS string

const (
	// The page shows so many routes, changes and failed requests.
	mostRoutes, mostEvents, mostFailed = 200, 200, 25
	// renderings bounds how many of the page are made at a time: it must not take
	// the processor from requests.
	renderings = 2
	// answerTimeout bounds the wait for Consul, which knows who is unhealthy.
	answerTimeout = 2 * time.Second
)

// AdminConfig is what the page tells beside what the Proxy knows. The functions
// are called for each page.
type AdminConfig struct {
	Node, Datacenter, Version, Codec string
	// Listeners may be nil, and Overrides where there are none.
	Listeners func() []ListenerState
	Overrides func() OverrideState
	// Followed are the datacenters that are followed, the own one first; may be nil.
	Followed func() []DatacenterState
	// ErrorPages may be nil, and returns nil while only the gateway's own are used.
	ErrorPages func() *errorpages.State
	// Refused are password files of which what they hold now is not used; nil where there
	// are none.
	Refused func() []error
	// Changes means that a token allows changes; see DrainHandler.
	Changes bool
}

// ListenerState is an address on which requests or connections come in.
type ListenerState struct {
	Address, Proto string
	// Open connections now, and how many there may be.
	Open, MaxConn int
	Draining      bool
	Certificates  []tlsfiles.Info
	// Problem says why newer certificates are not served; "" without.
	Problem string
}

// DatacenterState is what is known of the services of a datacenter.
type DatacenterState struct {
	Datacenter string `json:"datacenter"`
	// Own is true for the gateway's.
	Own bool `json:"own,omitempty"`
	// Stale says that it cannot be asked, and that its instances are those that were
	// known last, as of Confirmed; Reason is why. A datacenter that has never answered
	// has a Reason and is not Stale.
	Stale     bool      `json:"stale"`
	Reason    string    `json:"reason,omitempty"`
	Confirmed time.Time `json:"confirmed,omitzero"`
}

// OverrideState is what the operator's changes to the routes have come to.
type OverrideState struct {
	// Key is where they are, and Commands how many hold.
	Key      string             `json:"key"`
	Commands int                `json:"commands"`
	Problems []override.Problem `json:"ignored_lines"`
	// Err is why the key cannot be read now, while what was read last holds; "" if it
	// can.
	Err string `json:"error,omitempty"`
}

// Admin is the page of the operations endpoint.
type Admin struct {
	proxy  *Proxy
	cfg    AdminConfig
	page   *template.Template
	policy string
	busy   chan struct{}
}

// Admin makes the page.
func (p *Proxy) Admin(cfg AdminConfig) *Admin {
	return &Admin{
		proxy: p, cfg: cfg, busy: make(chan struct{}, renderings),
		page: template.Must(template.New("admin").Funcs(adminFuncs()).Parse(adminHTML)),
		policy: fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
			hashOf(adminJS), hashOf(adminCSS)),
	}
}

// hashOf names an inline script or style in a Content-Security-Policy.
func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// adminView is what the page shows.
type adminView struct {
	AdminConfig
	Prefix, Source string
	// After is the ID of the newest change that is shown.
	After     string
	Now       time.Time
	Leaf      leafState
	Sum       totals
	Found     Found
	Problems  []route.Problem
	Overrides OverrideState
	Followed  []DatacenterState
	Events    []Event
	Failed    []Trace
	Listeners []ListenerState
	Theme     *errorpages.State
	Passwords []error
	Ask       asked
	Style     template.CSS
	Script    template.JS
}

// leafState is the gateway's own identity.
type leafState struct {
	ID, Serial string
	NotAfter   time.Time
}

// totals are of all instances.
type totals struct {
	Instances, Draining, Ejected, Deferring int
	InFlight                                int
	PerSecond                               float64
	Failed                                  uint64
}

// asked is a question to the page, and its answer.
type asked struct {
	Text, Method, Client string
	Explained            *Explained
	Trace                *Trace
	Error                string
}

// Index serves the page. q= searches the routes, ask= explains a URL (with method=
// and client=) or the request of that ID.
func (a *Admin) Index() http.Handler {
	return a.handler("admin", func(v *adminView, r *http.Request) {
		a.fill(v, r)
		events := a.proxy.Events()
		slices.Reverse(events)
		v.After = a.proxy.timeline.eventID(0)
		if len(events) > 0 {
			v.After = a.proxy.timeline.eventID(events[0].Number)
		}
		v.Events = events[:min(len(events), mostEvents)]
	})
}

// Parts serves those parts of the page that change, to its script.
func (a *Admin) Parts() http.Handler { return a.handler("parts", a.fill) }

// Answer serves the answer to ask= alone, to the page's script.
func (a *Admin) Answer() http.Handler {
	return a.handler("answer", func(*adminView, *http.Request) {})
}

func (a *Admin) handler(name string, fill func(*adminView, *http.Request)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := adminView{
			AdminConfig: a.cfg, Prefix: a.proxy.cfg.Prefix, Source: a.proxy.cfg.Source, Now: time.Now(),
			Style: template.CSS(adminCSS), Script: template.JS(adminJS), //nolint:gosec // both are ours
		}
		v.Ask = a.proxy.answer(r) // it may wait for Consul, and so before its turn
		select {
		case a.busy <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		body, err := a.render(name, &v, func() { fill(&v, r) })
		if err != nil {
			a.proxy.log.Error("the admin page cannot be made", "err", err)
			http.Error(w, "the page cannot be made; the log says why", http.StatusInternalServerError)
			return
		}
		for name, value := range map[string]string{
			"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Content-Security-Policy": a.policy,
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			w.Header().Set(name, value)
		}
		_, _ = w.Write(body)
	})
}

// render makes a page in memory, so that a slow reader holds nobody up.
func (a *Admin) render(name string, v *adminView, fill func()) ([]byte, error) {
	defer func() { <-a.busy }()
	fill()
	var body bytes.Buffer
	err := a.page.ExecuteTemplate(&body, name, v)
	return body.Bytes(), err
}

// fill puts in what changes.
func (a *Admin) fill(v *adminView, r *http.Request) {
	p := a.proxy
	v.Found = p.Search(r.URL.Query().Get("q"), mostRoutes)
	v.Problems, v.Failed, v.Sum, v.Leaf = p.Table().Problems(), p.Failed(mostFailed), p.totals(), p.leaf()
	if a.cfg.Listeners != nil {
		v.Listeners = a.cfg.Listeners()
	}
	if a.cfg.Followed != nil {
		v.Followed = a.cfg.Followed()
	}
	if a.cfg.ErrorPages != nil {
		v.Theme = a.cfg.ErrorPages()
	}
	if a.cfg.Refused != nil {
		v.Passwords = a.cfg.Refused()
	}
	if a.cfg.Overrides != nil {
		v.Overrides = a.cfg.Overrides()
	}
}

// totals adds up what all instances do.
func (p *Proxy) totals() totals {
	var sum totals
	now := p.now()
	for _, t := range p.state.Load().targets {
		status, minute := t.endpoint.Status(now), t.recent.Summary(now)
		if status.Gone { // a table's instances include those that went with it
			continue
		}
		sum.Instances++
		sum.InFlight += status.InFlight
		sum.PerSecond += minute.PerSecond
		sum.Failed += minute.Failed
		if status.Draining {
			sum.Draining++
		}
		if status.Deferred {
			sum.Deferring++
		}
		if !status.EjectedUntil.IsZero() {
			sum.Ejected++
		}
	}
	return sum
}

// leaf tells who the gateway is; zero while it has no certificate.
func (p *Proxy) leaf() leafState {
	if p.cfg.Credentials == nil {
		return leafState{}
	}
	credentials, err := p.cfg.Credentials.Credentials()
	if err != nil || credentials.Certificate == nil {
		return leafState{}
	}
	leaf := credentials.Certificate.Leaf
	return leafState{credentials.ID.String(), leaf.SerialNumber.Text(16), leaf.NotAfter}
}

// answer answers ask=: the ID of a recent request, else a URL.
func (p *Proxy) answer(r *http.Request) asked {
	query := r.URL.Query()
	a := asked{Text: strings.TrimSpace(query.Get("ask")), Method: cmp.Or(query.Get("method"), http.MethodGet), Client: strings.TrimSpace(query.Get("client"))}
	if a.Text == "" {
		return a
	}
	if trace, ok := p.Trace(a.Text); ok {
		a.Trace = &trace
		return a
	}
	if !strings.ContainsAny(a.Text, "./:") {
		a.Error = "No such request among the last 1024 and the last 64 that failed. A URL has a host or begins with /."
		return a
	}
	var client netip.Addr
	if a.Client != "" {
		var err error
		if client, err = netip.ParseAddr(a.Client); err != nil {
			a.Error = "The client is no IP address."
			return a
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	explained, err := p.Explain(ctx, Question{a.Method, a.Text, client})
	if err != nil {
		a.Error = err.Error()
		return a
	}
	a.Explained = &explained
	return a
}
