package site

import (
	"strings"
	"testing"
	"time"

	"sluice/web/blog"
)

func TestWhatIsNotAsItShouldBeIsSaidInWords(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	open := wayState{state: "open", since: start}
	deny := func(destination string) wayState {
		return wayState{
			state: "denied", kind: kindDenied, reason: "denied by intention * -> " + destination,
			command: "sluice intentions allow web " + destination, since: start,
		}
	}
	gone := wayState{state: "failed", kind: kindNoInstance, reason: "No healthy instance of mongo-primary.", since: start}
	none := wayState{state: "failed", kind: kindNoInstance, reason: "No healthy instance of mongo-secondary."}
	wrong := wayState{state: "failed", kind: "wrong_identity", reason: "wrong identity: expected a, but b answered", command: "sluice status", since: start}
	const reader = "127.0.10.4:27017"
	tests := []struct {
		name  string
		sight sight
		want  []string // "kind title" and then parts of the text, one notice after the other
	}{
		{"all is well", sight{primary: open, secondary: open, reader: reader}, nil},
		{"nobody has asked yet", sight{primary: wayState{state: "unused"}}, nil},
		{"a set of one has no secondary", sight{primary: open, secondary: none}, nil},
		{"denied", sight{primary: deny("mongo-primary"), secondary: open, reader: reader}, []string{
			"denied denied by intention * -> mongo-primary", "Nothing can be written", "Reads go on from 127.0.10.4:27017 (mongo-secondary).",
		}},
		{"reads denied", sight{primary: open, secondary: deny("mongo-secondary")}, []string{
			"denied denied by intention * -> mongo-secondary", "Reads come from the primary.",
		}},
		{"both denied", sight{primary: deny("mongo-primary"), secondary: deny("mongo-secondary")}, []string{
			"denied denied by intention * -> mongo-primary", "Nothing can be read either: denied by intention * -> mongo-secondary.",
			"denied denied by intention * -> mongo-secondary", "Nothing can be read.",
		}},
		{"no primary, and nobody says more", sight{primary: gone, secondary: open}, []string{
			"no_primary no primary right now", "held for up to 10 s and then refused, and the form keeps", "Reads go on from mongo-secondary.",
		}},
		{"an election", sight{primary: gone, secondary: open, reader: reader, quorum: blog.Quorum{Heard: 3, Voters: 5}}, []string{
			"no_primary no primary right now", "3 of the 5 voting members hear each other", "Reads go on from 127.0.10.4:27017",
		}},
		{"a datacenter is lost", sight{primary: gone, secondary: open, reader: reader, quorum: blog.Quorum{Heard: 2, Voters: 5}}, []string{
			"read_only read-only: no majority, 2 of 5", "an election takes 3", "Reads go on from 127.0.10.4:27017",
		}},
		{"nobody at all", sight{primary: gone, secondary: none}, []string{"no_primary no primary right now", "Nothing can be read either: No healthy instance of mongo-secondary."}},
		{"somebody else answers", sight{primary: wrong, secondary: open}, []string{"failed mongo-primary cannot be used", "but b answered."}},
		{"Consul is away", sight{primary: open, secondary: open, consulAway: start}, []string{
			"consul_away Consul is away: running on the last known state", "takes effect when Consul is back",
		}},
		{"two things at once", sight{primary: gone, secondary: open, consulAway: start}, []string{
			"no_primary no primary right now", "consul_away Consul is away: running on the last known state",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var said strings.Builder
			for _, n := range notices(test.sight) {
				said.WriteString(n.Kind + " " + n.Title + "\n" + n.Text + "\n")
				if !n.Since.Equal(start) {
					t.Errorf("%s: since %v", n.Kind, n.Since)
				}
			}
			rest := said.String()
			for _, part := range test.want {
				_, after, found := strings.Cut(rest, part)
				if !found {
					t.Fatalf("no %q in order in:\n%s", part, said.String())
				}
				rest = after
			}
			if test.want == nil && rest != "" {
				t.Errorf("says:\n%s", rest)
			}
		})
	}
}
