package site

import (
	"errors"
	"fmt"
	"time"

	"sluice/mesh"
)

// Notice says in words what is not as it should be, and what that means for whoever
// looks at a page. Its JSON form is for programs.
type Notice struct {
	// Kind is denied, no_primary, read_only, failed or consul_away.
	Kind string `json:"kind"`
	// Title says what it is, for example "denied by intention web ->
	// mongo-primary"; Text what follows from it, in sentences.
	Title string `json:"title"`
	Text  string `json:"text"`
	// Command fixes it, or shows more.
	Command string `json:"command,omitempty"`
	// Since is when it began, as far as this process has seen it; zero if it has not.
	Since time.Time `json:"since,omitzero"`
}

// heldFor is what becomes of a write while there is no primary.
const heldFor = "A write is held for up to 10 s and then refused, and the form keeps what was typed."

// notices puts a sight into words: nothing while all is well. It asks nobody.
func notices(s sight) []Notice {
	var out []Notice
	switch {
	case s.primary.kind == kindDenied:
		out = append(out, Notice{
			Kind: kindDenied, Title: trimDot(s.primary.reason), Text: "Nothing can be written until it is allowed. " + s.reads(),
			Command: s.primary.command, Since: s.primary.since,
		})
	case s.primary.kind == kindNoInstance:
		out = append(out, s.leaderless())
	case s.primary.broken():
		out = append(out, Notice{
			Kind: "failed", Title: "mongo-primary cannot be used", Text: trimDot(s.primary.reason) + ". " + s.reads(),
			Command: s.primary.command, Since: s.primary.since,
		})
	}
	if s.secondary.kind == kindDenied {
		text := "Reads come from the primary."
		if s.primary.broken() {
			text = "Nothing can be read."
		}
		out = append(out, Notice{
			Kind: kindDenied, Title: trimDot(s.secondary.reason), Text: text, Command: s.secondary.command, Since: s.secondary.since,
		})
	}
	if !s.consulAway.IsZero() {
		out = append(out, Notice{
			Kind: "consul_away", Title: "Consul is away: running on the last known state",
			Text:    "Addresses, intentions and the configuration stay as they were. What is changed meanwhile takes effect when Consul is back.",
			Command: "sluice status", Since: s.consulAway,
		})
	}
	return out
}

// leaderless is the notice of a set without a primary in reach.
func (s sight) leaderless() Notice {
	n := Notice{Kind: "no_primary", Title: "no primary right now", Text: "One is usually elected within seconds.", Command: "sluice status", Since: s.primary.since}
	q := s.quorum
	switch {
	case q.Known() && !q.Majority():
		n.Kind, n.Title = "read_only", fmt.Sprintf("read-only: no majority, %d of %d", q.Heard, q.Voters)
		n.Text = fmt.Sprintf("Only %d of the %d voting members hear each other here, and an election takes %d.", q.Heard, q.Voters, q.Voters/2+1)
	case q.Known():
		n.Text = fmt.Sprintf("%d of the %d voting members hear each other, so that one can be elected, usually within seconds.", q.Heard, q.Voters)
	}
	n.Text += " " + heldFor + " " + s.reads()
	return n
}

// reads says where is read from while the primary cannot be used.
func (s sight) reads() string {
	switch {
	case s.secondary.broken():
		return "Nothing can be read either: " + trimDot(s.secondary.reason) + "."
	case s.reader != "":
		return "Reads go on from " + s.reader + " (mongo-secondary)."
	default:
		return "Reads go on from mongo-secondary."
	}
}

// stateOf is the state of a way at the moment now.
func stateOf(service string, upstream Upstream, now time.Time) wayState {
	state := wayState{state: "unused", since: now}
	if _, _, ok := upstream.Last(); ok {
		state.state = "open"
	}
	err := upstream.Err()
	if err == nil {
		return state
	}
	p := problem(service, err)
	state.state, state.reason, state.kind, state.command = "failed", p.Reason, p.Kind, p.Command
	if errors.Is(err, mesh.ErrDenied) {
		state.state = kindDenied
	}
	return state
}

// notices are those of this moment.
func (s *Site) notices() []Notice {
	seen, _ := s.lookout.current()
	return notices(s.lookout.ways(seen).sight)
}
