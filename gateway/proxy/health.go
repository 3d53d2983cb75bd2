package proxy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// inquiryPause is how long after one question to Consul the next is asked.
	inquiryPause = 200 * time.Millisecond
	// mostDepartures bounds those that wait for a reason.
	mostDepartures = 256
)

// departure is an instance that the catalog does not call healthy any more, and the
// event that lacks the reason.
type departure struct {
	target *target
	event  Event
}

// inquiry asks Consul why instances went: the catalog holds healthy ones alone. It
// is for people, so it is slow, and the routes do not wait for it.
type inquiry struct {
	proxy *Proxy
	// news has a value when somebody waits.
	news chan struct{}

	mu      sync.Mutex
	waiting map[string][]departure // by service
	count   int
}

func newInquiry(p *Proxy) *inquiry {
	return &inquiry{proxy: p, news: make(chan struct{}, 1), waiting: map[string][]departure{}}
}

// add takes a departure, unless too many wait.
func (q *inquiry) add(d departure) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.proxy.cfg.Absent == nil || q.count == mostDepartures {
		return false
	}
	q.count++
	q.waiting[d.target.service] = append(q.waiting[d.target.service], d)
	select {
	case q.news <- struct{}{}:
	default:
	}
	return true
}

func (q *inquiry) take() map[string][]departure {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.waiting
	q.waiting, q.count = map[string][]departure{}, 0
	return taken
}

// run asks until ctx ends.
func (q *inquiry) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
			return
		case <-q.news:
		}
		for service, departures := range q.take() {
			q.ask(ctx, service, departures)
		}
		pause.Reset(inquiryPause)
	}
}

func (q *inquiry) ask(ctx context.Context, service string, departures []departure) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	absent, err := q.proxy.cfg.Absent(ctx, service)
	for _, d := range departures {
		why := "it is not in the catalog any more"
		switch found := absentOf(absent, d.target); {
		case err != nil:
			why = "why is not known: " + err.Error()
		case found != nil:
			why = found.Why
		case q.proxy.serves(d.target):
			why = "it was back before it could be asked why"
		}
		d.event.Text += ": " + why
		q.proxy.timeline.add(d.event)
	}
}

func absentOf(absent []Absent, t *target) *Absent {
	for i := range absent {
		if absent[i].Instance == t.instance.ServiceID && absent[i].Node == t.instance.Node {
			return &absent[i]
		}
	}
	return nil
}

// serves reports whether the instance is there now, wherever it listens. The
// targets of a snapshot include those that went with it.
func (p *Proxy) serves(t *target) bool {
	return slices.ContainsFunc(p.state.Load().targets, func(other *target) bool {
		return t.is(other) && !other.endpoint.Status(p.now()).Gone
	})
}

// is reports whether both are the same instance, wherever it listens.
func (t *target) is(other *target) bool {
	return t.service == other.service && t.instance.Node == other.instance.Node && t.instance.ServiceID == other.instance.ServiceID
}

// tellHealth writes down which instances became healthy and which are not any more.
func (f *follower) tellHealth(came, gone []*target, c cause) {
	came, gone = watched(came), watched(gone)
	now := time.Now()
	made := func(targets []*target, subject, text string) departure {
		e := Event{At: now, Kind: "health", Subject: subject, Text: text, Effect: now.Sub(c.heard)}
		for _, t := range targets {
			e.Index = max(e.Index, f.index(c, t.service))
		}
		return departure{targets[0], e}
	}
	if len(came) > mostNamed {
		f.timeline.add(made(came, several(came), "healthy: they are picked from now on: "+few(places(came))).event)
		came = nil
	}
	for _, t := range came {
		text := "healthy: it is picked from now on"
		for _, before := range gone {
			if before.is(t) {
				text = fmt.Sprintf("it is at %s now, and was at %s", t.instance.Address, before.instance.Address)
			}
		}
		f.timeline.add(made([]*target{t}, t.place(), text).event)
	}
	if len(gone) > mostNamed {
		f.timeline.add(made(gone, several(gone), "they are picked no more: "+few(places(gone))).event)
		gone = nil
	}
	for _, t := range gone {
		if f.serves(t) {
			continue // it moved, which is told above
		}
		if d := made([]*target{t}, t.place(), "it is picked no more"); !f.inquiry.add(d) {
			f.timeline.add(d.event)
		}
	}
}

func several(targets []*target) string { return fmt.Sprintf("%d instances", len(targets)) }

// watched leaves out what overrides add, which no check watches.
func watched(targets []*target) []*target {
	return slices.DeleteFunc(targets, func(t *target) bool { return t.instance.ID.IsZero() })
}

func places(targets []*target) []string {
	list := make([]string, len(targets))
	for i, t := range targets {
		list[i] = t.place()
	}
	return list
}
