package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// eventsBeat is how often a stream of events shows that it lives, and
	// eventsPatience how long a reader may take to take what there is.
	eventsBeat     = 15 * time.Second
	eventsPatience = 10 * time.Second
	// maxEventStreams bounds the readers.
	maxEventStreams = 64
)

// eventID names an event in a stream.
func (t *timeline) eventID(number uint64) string {
	return t.epoch + "-" + strconv.FormatUint(number, 10)
}

// position returns the number of the event that an ID names; a number alone is one
// of this process. What is not of this process is 0, and foreign if it was of
// another.
func (t *timeline) position(id string) (number uint64, foreign bool) {
	epoch, digits, ok := strings.Cut(id, "-")
	if !ok {
		epoch, digits = t.epoch, id
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || epoch != t.epoch {
		return 0, ok
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return min(number, t.last), false
}

// TimelineHandler serves the last changes as JSON.
func (p *Proxy) TimelineHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, p.Events()) })
}

// EventsHandler serves the changes as they happen, as server-sent events. Those
// after the ID in Last-Event-ID, or in after=, come first; without either, all that
// are kept. If the ID is of another process, an event "restart" comes before them.
func (p *Proxy) EventsHandler() http.Handler {
	var readers atomic.Int32
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer readers.Add(-1)
		if readers.Add(1) > maxEventStreams {
			http.Error(w, fmt.Sprintf("there are %d readers already", maxEventStreams), http.StatusServiceUnavailable)
			return
		}
		id := r.Header.Get("Last-Event-ID")
		if id == "" {
			id = r.URL.Query().Get("after")
		}
		last, foreign := p.timeline.position(id)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		s := &eventStream{w: w, control: http.NewResponseController(w), timeline: p.timeline, last: last}
		opening := "retry: 2000\n\n"
		if foreign {
			opening = "event: restart\ndata: {}\n\n"
		}
		if s.write(opening) == nil {
			s.follow(r)
		}
	})
}

// eventStream is one reader.
type eventStream struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	timeline *timeline
	last     uint64
}

// follow writes until the reader or the timeline ends.
func (s *eventStream) follow(r *http.Request) {
	beat := time.NewTicker(eventsBeat)
	defer beat.Stop()
	for {
		events, changed := s.timeline.after(s.last)
		var text strings.Builder
		for _, e := range events {
			data, _ := json.Marshal(e)
			fmt.Fprintf(&text, "id: %s\nevent: change\ndata: %s\n\n", s.timeline.eventID(e.Number), data)
			s.last = e.Number
		}
		if text.Len() > 0 && s.write(text.String()) != nil || changed == nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-beat.C:
			if s.write(": beat\n\n") != nil {
				return
			}
		}
	}
}

func (s *eventStream) write(text string) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(eventsPatience))
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}
