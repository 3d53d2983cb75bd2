package proxy

import (
	"fmt"
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
	// mostNamed bounds the instances that one event names.
	mostNamed = 5
)

// Event is one change of what the gateway goes by.
type Event struct {
	// Number grows by one with each event of the process.
	Number uint64    `json:"number"`
	At     time.Time `json:"at"`
	// Kind is route, tag, intention, leaf, override or drain.
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
	// epoch tells the events of this process from those of one before it.
	epoch string

	mu      sync.Mutex
	events  []Event
	last    uint64
	changed chan struct{}
	ended   bool
}

func newTimeline(began time.Time) *timeline {
	return &timeline{epoch: strconv.FormatInt(began.UnixNano(), 36), changed: make(chan struct{})}
}

func (t *timeline) add(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	e.Number = t.last
	if len(t.events) == timelineSize {
		t.events = append(t.events[:0], t.events[1:]...)
	}
	t.events = append(t.events, e)
	t.wake()
}

// wake needs the lock.
func (t *timeline) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// end lets those go who wait for events.
func (t *timeline) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	t.wake()
}

// after returns the events after a number, and a channel that is closed when there
// are more; nil if there will be none.
func (t *timeline) after(number uint64) ([]Event, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := t.changed
	if t.ended {
		changed = nil
	}
	at, _ := slices.BinarySearchFunc(t.events, number+1, func(e Event, n uint64) int {
		return int(int64(e.Number) - int64(n))
	})
	return slices.Clone(t.events[at:]), changed
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
		if text := difference(c); text != "" {
			f.timeline.add(Event{At: now, Kind: "route", Subject: subject(c), Text: text, Effect: now.Sub(heard)})
		}
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

// difference says in words what a change is; "" if it is not the route's: tags of
// other routes on the same instance, or its metadata.
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
	if len(parts) == 0 && !slices.EqualFunc(c.Before.Targets, c.After.Targets, func(a, b route.Target) bool { return a.Share == b.Share }) {
		parts = append(parts, "its instances have other shares")
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
