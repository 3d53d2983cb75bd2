package lab

import (
	"context"
	"sync"
)

// Event is one line of a lab's way up: a step began, ended or failed, or the
// whole came to its end.
type Event struct {
	Step    string       `json:"step,omitempty"`
	State   EventState   `json:"state"`
	Seconds float64      `json:"seconds,omitempty"`
	Failure *StepFailure `json:"failure,omitempty"`
	Summary *Summary     `json:"summary,omitempty"`
	// Notice is a sentence that people should read.
	Notice string `json:"notice,omitempty"`
}

// EventState says what an Event tells.
type EventState string

// The states of a step, and of the whole.
const (
	StepBegan  EventState = "began"
	StepEnded  EventState = "ended"
	StepFailed EventState = "failed"
	LabNotice  EventState = "notice"
	LabReady   EventState = "ready"
)

// StepFailure says which step failed, why, what the process that it waited for
// said last, and what to try.
type StepFailure struct {
	Step    string   `json:"step"`
	Cause   string   `json:"cause"`
	Process string   `json:"process,omitempty"`
	Tail    []string `json:"tail,omitempty"`
	Hint    string   `json:"hint,omitempty"`
}

// journal keeps every event and lets any number of readers follow. One goroutine
// writes.
type journal struct {
	mu     sync.Mutex
	events []Event
	news   chan struct{}
}

func newJournal() *journal { return &journal{news: make(chan struct{})} }

func (j *journal) add(event Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, event)
	close(j.news)
	j.news = make(chan struct{})
}

// follow calls each for every event, old ones first, until each returns false or
// ctx ends.
func (j *journal) follow(ctx context.Context, each func(Event) bool) error {
	for seen := 0; ; {
		j.mu.Lock()
		fresh, news := j.events[seen:], j.news
		j.mu.Unlock()
		for _, event := range fresh {
			if !each(event) {
				return nil
			}
		}
		seen += len(fresh)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-news:
		}
	}
}

// last returns the newest event.
func (j *journal) last() (Event, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.events) == 0 {
		return Event{}, false
	}
	return j.events[len(j.events)-1], true
}

// up reports whether the lab has come up.
func (j *journal) up() bool {
	event, ok := j.last()
	return ok && event.State == LabReady
}
