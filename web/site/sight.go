package site

import (
	"fmt"
	"time"

	"sluice/web/blog"
)

const (
	// maxEvents is how many changes the page shows.
	maxEvents = 20
	// readerGone is how long a member may be silent while others answer in its place.
	readerGone = 5 * time.Second
)

// Event is a change that the page shows.
type Event struct {
	At time.Time `json:"at"`
	// Kind is "role", "denied", "failed" or "back".
	Kind string `json:"kind"`
	// Text is one sentence.
	Text string `json:"text"`
}

// sight is what is seen of the ways to the database at one moment.
type sight struct {
	primary, secondary wayState
	// leader is the primary's address as the set says, "" while unknown, and leaderSince
	// when it was first named.
	leader      string
	leaderSince time.Time
	// reader is the member that answers for mongo-secondary, "" while unknown, and
	// readerSince since when if it was another before.
	reader      string
	readerSince time.Time
	// quorum is what the reader knows of the voters while no primary is in reach.
	quorum blog.Quorum
	// consulAway is since when Consul cannot be asked, zero while it can.
	consulAway time.Time
}

// The kinds of problems that a way can have.
const (
	kindDenied     = "denied"
	kindNoInstance = "no_instance"
)

// wayState is the state of an outbound edge. since is when it began; kind and command
// are those of its problem.
type wayState struct {
	state, reason, kind, command string
	since                        time.Time
	// unmet says that it has been neither open nor denied yet.
	unmet bool
}

// follow keeps since while the state stays, and unmet until the first news.
func (w wayState) follow(old wayState) wayState {
	w.unmet = w.state != "open" && w.state != kindDenied && (old.unmet || old.state == "")
	if w.state == old.state && w.reason == old.reason && !old.since.IsZero() {
		w.since = old.since
	}
	return w
}

func (w wayState) broken() bool { return w.state == "denied" || w.state == "failed" }

// readers follows which member answers for mongo-secondary. The connections of one way
// may lead to several, which then answer in turn, and that is no news.
type readers struct {
	member string
	// since is when it took over from another; heard is when it answered last, and other
	// when another first did after that.
	since, heard, other time.Time
}

// hear takes an answer. Another member takes over when the one before has become the
// primary, or has been silent for readerGone.
func (r readers) hear(member, leader string, now time.Time) readers {
	if r.member == "" || member == r.member {
		return readers{member: member, since: r.since, heard: now}
	}
	if r.other.IsZero() {
		r.other = now
	}
	if r.member == leader || now.Sub(r.heard) >= readerGone {
		return readers{member: member, since: r.other, heard: now}
	}
	return r
}

// changes returns what became different between two sights, in words.
func changes(old, now sight, at time.Time) []Event {
	var events []Event
	for _, way := range []struct {
		service  string
		old, now wayState
	}{{"mongo-primary", old.primary, now.primary}, {"mongo-secondary", old.secondary, now.secondary}} {
		if event, ok := wayChange(way.service, way.old, way.now); ok {
			event.At = at
			events = append(events, event)
		}
	}
	if old.leader != "" && now.leader != "" && old.leader != now.leader {
		events = append(events, Event{now.leaderSince, "role", fmt.Sprintf("%s is primary now. It was %s.", now.leader, old.leader)})
	}
	if old.reader != "" && now.reader != "" && old.reader != now.reader {
		events = append(events, Event{now.readerSince, "role", fmt.Sprintf("mongo-secondary is %s now. It was %s.", now.reader, old.reader)})
	}
	return events
}

func wayChange(service string, old, now wayState) (Event, bool) {
	switch {
	case now.state == old.state && now.reason == old.reason:
		return Event{}, false
	case now.state == "denied":
		return Event{Kind: "denied", Text: fmt.Sprintf("web -> %s is denied: %s.", service, trimDot(now.reason))}, true
	case now.state == "failed" && now.unmet, old.state == "failed" && old.unmet:
		return Event{}, false // a start is no news
	case now.state == "failed":
		return Event{Kind: "failed", Text: fmt.Sprintf("web -> %s fails: %s.", service, trimDot(now.reason))}, true
	case old.broken():
		return Event{Kind: "back", Text: fmt.Sprintf("web -> %s works again after %s.", service, forHow(now.since.Sub(old.since)))}, true
	default:
		return Event{}, false // the first connection is no news
	}
}

func trimDot(text string) string {
	if n := len(text); n > 0 && text[n-1] == '.' {
		return text[:n-1]
	}
	return text
}

// forHow says how long something took.
func forHow(d time.Duration) string {
	switch {
	case d < 100*time.Millisecond:
		return "less than 0.1 s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	default:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
}
