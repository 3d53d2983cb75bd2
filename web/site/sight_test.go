package site

import (
	"slices"
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
			test.now.leaderSince, test.now.readerSince = start, start
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

func TestAStartIsNoNewsAndWhatComesAfterItIs(t *testing.T) {
	fails := func(reason string) wayState { return wayState{state: "failed", reason: reason} }
	denied, open := wayState{state: "denied", reason: "denied by intention web -> mongo-primary"}, wayState{state: "open"}
	for name, row := range map[string]struct {
		states []wayState
		kinds  []string
	}{
		"no certificate, no instance, and then it works": {[]wayState{{state: "unused"}, fails("no certificate"), fails("no instance"), open}, nil},
		"it fails at once":                  {[]wayState{fails("no certificate"), open}, nil},
		"it fails after it has worked":      {[]wayState{fails("no certificate"), open, fails("no instance"), fails("no answer"), open}, []string{"failed", "failed", "back"}},
		"it is denied from the start":       {[]wayState{{state: "unused"}, denied, open}, []string{"denied", "back"}},
		"it fails once it is allowed":       {[]wayState{denied, fails("no instance"), open}, []string{"denied", "failed", "back"}},
		"it is not used after a denial":     {[]wayState{denied, {state: "unused"}, fails("no instance")}, []string{"denied", "back", "failed"}},
		"it is denied before it has worked": {[]wayState{fails("no certificate"), denied, open}, []string{"denied", "back"}},
	} {
		var last wayState
		var kinds []string
		for _, state := range row.states {
			state = state.follow(last)
			for _, event := range changes(sight{primary: last}, sight{primary: state}, time.Time{}) {
				kinds = append(kinds, event.Kind)
			}
			last = state
		}
		if !slices.Equal(kinds, row.kinds) {
			t.Errorf("%s: %q, want %q", name, kinds, row.kinds)
		}
	}
}

func TestMembersThatAnswerInTurnAreNoNewsAndOneThatIsGoneIs(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, row := range map[string]struct {
		leader string
		said   string // who answers, every 500 ms; a dot is nobody
		member string
		since  time.Duration // from the start; -1 is never
	}{
		"one":                        {"p", "aaaaaaaaaaaaaaaa", "a", -1},
		"the first":                  {"p", "..........a", "a", -1},
		"in turn":                    {"p", "abababababababababababababababab", "a", -1},
		"by chance":                  {"p", "abbbabbabbbbbbaabababbbbbbabbbbb", "a", -1},
		"it is gone":                 {"p", "aaabbbbbbbbbbbb", "b", 1500 * time.Millisecond},
		"not yet for long":           {"p", "aaabbbbbbbbb", "a", -1},
		"two come after it":          {"p", "aaabbcbccbcbcb", "c", 1500 * time.Millisecond},
		"it has become the primary":  {"a", "aaab", "b", 1500 * time.Millisecond},
		"nobody answers, and then b": {"p", "aa............b", "b", 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			r, now := readers{}, start
			for _, member := range row.said {
				if member != '.' {
					r = r.hear(string(member), row.leader, now)
				}
				now = now.Add(500 * time.Millisecond)
			}
			since := time.Duration(-1)
			if !r.since.IsZero() {
				since = r.since.Sub(start)
			}
			if r.member != row.member || since != row.since {
				t.Errorf("%s since %s, want %s since %s", r.member, since, row.member, row.since)
			}
		})
	}
}
