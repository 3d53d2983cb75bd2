package proxy

import (
	"slices"
	"strconv"
	"sync"
	"time"
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
	Number uint64 `json:"number"`
	// At is when the change was applied.
	At time.Time `json:"at"`
	// Kind is route, tag, health, ejection, intention, leaf, root, override, drain,
	// certificate, clientca, errorpage or password.
	Kind string `json:"kind"`
	// Subject is the route, the service, the instance or the serial number that
	// changed.
	Subject string `json:"subject"`
	Text    string `json:"text"`
	// Index is Consul's, where it is known.
	Index uint64 `json:"index,omitempty"`
	// Effect is from the news to the moment at which requests went by it; 0 is at once.
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

// Record adds a change of what others than the Proxy go by; its number is set here.
// It is safe for concurrent use.
func (p *Proxy) Record(e Event) { p.timeline.add(e) }

// Events returns the last changes, the oldest first; not nil.
func (p *Proxy) Events() []Event {
	events, _ := p.timeline.after(0)
	return append([]Event{}, events...)
}
