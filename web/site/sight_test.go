package site

import (
	"testing"
	"time"
)

func TestWhatChangedIsToldInWords(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	open := wayState{state: "open", since: start.Add(3 * time.Second)}
	deny := wayState{state: "denied", reason: "denied by intention web -> mongo-primary", since: start}
	gone := wayState{state: "failed", reason: "No healthy instance of mongo-primary.", since: start}
	tests := []struct {
		name     string
		old, now sight
		want     string
	}{
		{"nothing", sight{primary: open}, sight{primary: open}, ""},
		{"the first connection", sight{primary: wayState{state: "unused"}}, sight{primary: open}, ""},
		{"a deny", sight{primary: open}, sight{primary: deny}, "web -> mongo-primary is denied: denied by intention web -> mongo-primary."},
		{"an allow", sight{primary: deny}, sight{primary: open}, "web -> mongo-primary works again after 3.0 s."},
		{"a moment", sight{primary: gone}, sight{primary: wayState{state: "open", since: start.Add(40 * time.Millisecond)}}, "web -> mongo-primary works again after less than 0.1 s."},
		{"no primary", sight{primary: open}, sight{primary: gone}, "web -> mongo-primary fails: No healthy instance of mongo-primary."},
		{"a secondary lost", sight{secondary: open}, sight{secondary: gone}, "web -> mongo-secondary fails: No healthy instance of mongo-primary."},
		{"an election", sight{leader: "a:1"}, sight{leader: "b:1"}, "b:1 is primary now. It was a:1."},
		{"the first primary", sight{}, sight{leader: "b:1"}, ""},
		{"a primary that is not known any more", sight{leader: "a:1"}, sight{}, ""},
		{"another secondary", sight{reader: "a:1"}, sight{reader: "b:1"}, "mongo-secondary is b:1 now. It was a:1."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			events := changes(test.old, test.now, start)
			got := ""
			if len(events) > 0 {
				got = events[0].Text
			}
			if got != test.want || len(events) > 1 {
				t.Errorf("%+v, want %q", events, test.want)
			}
		})
	}
}
