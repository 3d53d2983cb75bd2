package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/gateway/route"
	"sluice/mesh"
)

const (
	// timelineSize is how many of the last changes are kept.
	timelineSize = 500
	// eventsBeat is how often a stream of events shows that it lives.
	eventsBeat = 15 * time.Second
	// mostNamed bounds the instances that one event names.
	mostNamed = 5
)

// Event is one change of what the gateway goes by.
type Event struct {
	// Number grows by one with each event of the process.
	Number uint64    `json:"number"`
	At     time.Time `json:"at"`
	// Kind is route, tag, intention, leaf or override.
	Kind string `json:"kind"`
	// Subject is the route, the service or the serial number that changed.
	Subject string `json:"subject"`
	Text    string `json:"text"`
	// Index is Consul's, where it is known.
	Index uint64 `json:"index,omitempty"`
	// Effect is from the news to the moment at which requests went by it.
	Effect time.Duration `json:"effect_ns,omitempty"`
}

// timeline keeps the last events and wakes who waits for the next.
type timeline struct {
	mu      sync.Mutex
	events  []Event
	last    uint64
	changed chan struct{}
}

func newTimeline() *timeline { return &timeline{changed: make(chan struct{})} }

func (t *timeline) add(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	e.Number = t.last
	if len(t.events) == timelineSize {
		t.events = append(t.events[:0], t.events[1:]...)
	}
	t.events = append(t.events, e)
	close(t.changed)
	t.changed = make(chan struct{})
}

// after returns the events after a number, and a channel that is closed when there
// are more.
func (t *timeline) after(number uint64) ([]Event, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, _ := slices.BinarySearchFunc(t.events, number+1, func(e Event, n uint64) int {
		return int(int64(e.Number) - int64(n))
	})
	return slices.Clone(t.events[at:]), t.changed
}

// Events returns the last changes, the oldest first.
func (p *Proxy) Events() []Event {
	events, _ := p.timeline.after(0)
	return events
}

// tell writes down what a new table changes.
func (f *follower) tell(old *route.Table, changes []route.Change, heard time.Time) {
	now := time.Now()
	for _, c := range changes {
		f.timeline.add(Event{At: now, Kind: "route", Subject: subject(c), Text: difference(c), Effect: now.Sub(heard)})
	}
	known := map[route.Problem]bool{}
	for _, problem := range old.Problems() {
		known[problem] = true
	}
	for _, problem := range f.state.Load().table.Problems() {
		if !known[problem] {
			f.timeline.add(Event{
				At: now, Kind: "tag", Subject: problem.Service, Effect: now.Sub(heard),
				Text: fmt.Sprintf("quarantined on %s: %s: %s", problem.Node, problem.Tag, problem.Reason),
			})
		}
	}
}

func subject(c route.Change) string {
	if c.After != nil {
		return c.After.String()
	}
	return c.Before.String()
}

// difference says in words what a change is.
func difference(c route.Change) string {
	switch {
	case c.Before == nil:
		return "new: " + instances(c.After)
	case c.After == nil:
		return "forgotten"
	}
	before, after := names(c.Before), names(c.After)
	gone := slices.DeleteFunc(slices.Clone(before), func(n string) bool { return slices.Contains(after, n) })
	came := slices.DeleteFunc(slices.Clone(after), func(n string) bool { return slices.Contains(before, n) })
	var parts []string
	if len(came) > 0 {
		parts = append(parts, "+ "+few(came))
	}
	if len(gone) > 0 {
		parts = append(parts, "- "+few(gone))
	}
	if c.Before.Closed != c.After.Closed && c.After.Closed != "" {
		parts = append(parts, "closed: "+c.After.Closed)
	}
	if c.Before.Options != nil && c.After.Options != nil && !c.Before.Options.Equal(c.After.Options) {
		parts = append(parts, fmt.Sprintf("options %q, were %q", c.After.Options.String(), c.Before.Options.String()))
	}
	if len(after) == 0 {
		parts = append(parts, "no healthy instance is left")
	}
	if len(parts) == 0 {
		return "tags, metadata or weights of its instances changed"
	}
	return strings.Join(parts, "; ")
}

func instances(r *route.Route) string {
	if len(r.Targets) == 0 {
		return "no healthy instance"
	}
	return few(names(r))
}

func names(r *route.Route) []string {
	list := make([]string, 0, len(r.Instances))
	for i := range r.Instances {
		list = append(list, r.Instances[i].ServiceID+" on "+r.Instances[i].Node)
	}
	return list
}

func few(list []string) string {
	if len(list) > mostNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:mostNamed], ", "), len(list)-mostNamed)
	}
	return strings.Join(list, ", ")
}

// tellPolicy writes down new intentions.
func (f *follower) tellPolicy(policy mesh.Policy, heard time.Time) {
	now := time.Now()
	rules := make([]string, 0, len(policy.Set.Rules()))
	for _, rule := range policy.Set.Rules() {
		rules = append(rules, rule.Edge()+": "+string(rule.Action))
	}
	text := few(rules) + "; default " + string(policy.Set.Default())
	f.timeline.add(Event{At: now, Kind: "intention", Subject: f.cfg.Source, Text: strings.TrimPrefix(text, "; "), Index: policy.Index, Effect: now.Sub(heard)})
}

// TimelineHandler serves the last changes as JSON.
func (p *Proxy) TimelineHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, p.Events()) })
}

// EventsHandler serves the changes as they happen, as server-sent events; those
// that were missed come first.
func (p *Proxy) EventsHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		control := http.NewResponseController(w)
		_ = control.SetWriteDeadline(time.Time{})
		last, _ := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64)
		beat := time.NewTicker(eventsBeat)
		defer beat.Stop()
		for {
			events, changed := p.timeline.after(last)
			for _, e := range events {
				data, _ := json.Marshal(e)
				if _, err := fmt.Fprintf(w, "id: %d\nevent: change\ndata: %s\n\n", e.Number, data); err != nil {
					return
				}
				last = e.Number
			}
			if err := control.Flush(); err != nil {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case <-changed:
			case <-beat.C:
				if _, err := fmt.Fprint(w, ": beat\n\n"); err != nil {
					return
				}
			}
		}
	})
}
