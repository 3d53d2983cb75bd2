package lab

import (
	"fmt"
	"time"
)

// MajorityPoint is the newest operation that a majority of the set is known to have.
type MajorityPoint struct {
	OpTime OpTime `json:"optime"`
	// At is when it was written, by the clock of the primary that wrote it.
	At time.Time `json:"at"`
}

// AtStake is what a promotion can cost, by what is known on each side.
type AtStake struct {
	// Node is the member that the datacenter would go on from, OpTime its last operation.
	Node   string         `json:"node"`
	OpTime OpTime         `json:"optime"`
	Sides  []MajoritySide `json:"sides"`
}

// MajoritySide is how far a majority had come, by what is known of one datacenter's
// members, and what of that a promotion of another one would lose.
type MajoritySide struct {
	Datacenter string `json:"datacenter"`
	// Answers says that a member there tells it now; else it is the last that anybody
	// who answers has heard from there.
	Answers bool `json:"answers"`
	// Majority is nil while nobody knows it. Member knew it, ToldBy told it to the lab,
	// and AgeSeconds is how long ago Member was heard.
	Majority   *MajorityPoint `json:"majority,omitempty"`
	Member     string         `json:"member,omitempty"`
	ToldBy     string         `json:"told_by,omitempty"`
	AgeSeconds float64        `json:"age_seconds,omitempty"`
	// Primary is the member there that still takes writes; empty if none is known to.
	Primary string `json:"primary,omitempty"`
	// Lost is what a majority had acknowledged there and the promoted member has not;
	// nil is that nothing of the kind is known. Beyond is the newest operation there that
	// no majority is known to have; zero if there is none.
	Lost   *LostSpan `json:"lost,omitempty"`
	Beyond OpTime    `json:"beyond,omitzero"`
}

// LostSpan is a part of the log: what comes after After, up to UpTo.
type LostSpan struct {
	After OpTime `json:"after"`
	UpTo  OpTime `json:"up_to"`
	// Seconds is the time in which it was written. Where After is no majority's newest
	// operation its time is known by the second only.
	Seconds float64 `json:"seconds"`
	// Operations is how many, or, with AtLeast, how many at least.
	Operations int64 `json:"operations"`
	AtLeast    bool  `json:"at_least,omitempty"`
}

// toldLately is how old an agent's answer about the majority may be to count as what
// holds now: it asks its mongod each second.
const toldLately = 5 * time.Second

// stakeOf puts together what is known on each side before datacenter goes on from
// chosen. It asks nobody.
func stakeOf(status MongoStatus, datacenter string, chosen MongoMember) AtStake {
	stake := AtStake{Node: chosen.Node, OpTime: chosen.OpTime}
	for _, side := range status.Sides {
		s := majorityOf(status.Members, side.Datacenter)
		if side.Datacenter != datacenter {
			s.lose(status.Members, chosen)
		}
		stake.Sides = append(stake.Sides, s)
	}
	return stake
}

// majorityOf returns the newest that the members of a datacenter tell of the majority;
// if none tells it now, the newest that was ever heard from them.
func majorityOf(members []MongoMember, datacenter string) MajoritySide {
	side := MajoritySide{Datacenter: datacenter}
	take := func(point MajorityPoint, of, by string, age float64) {
		known := side.Majority
		if point.OpTime == (OpTime{}) || known != nil && (point.OpTime.before(known.OpTime) || point == *known && side.AgeSeconds <= age) {
			return
		}
		side.Majority, side.Member, side.ToldBy, side.AgeSeconds = &point, of, by, age
	}
	place := map[string]string{}
	for _, m := range members {
		place[m.Node] = m.Datacenter
		if m.Datacenter != datacenter || m.Report == nil || m.Report.Majority == nil {
			continue
		}
		age := m.Report.Majority.ToldMS / 1000
		side.Answers = side.Answers || age < toldLately.Seconds()
		take(m.Report.Majority.MajorityPoint, m.Node, m.Node, age)
	}
	if side.Answers {
		return side
	}
	for _, m := range members {
		if m.Report == nil {
			continue
		}
		for _, peer := range m.Report.Peers {
			if place[peer.Node] == datacenter && peer.HeardMS != nil {
				take(peer.Majority, peer.Node, m.Node, *peer.HeardMS/1000)
			}
		}
	}
	return side
}

// lose says what of a side's log a member elsewhere has not.
func (s *MajoritySide) lose(members []MongoMember, chosen MongoMember) {
	base := OpTime{}
	if s.Majority != nil {
		base = s.Majority.OpTime
	}
	if chosen.OpTime.before(base) {
		ahead := base.ahead(chosen.OpTime)
		s.Lost = &LostSpan{
			After: chosen.OpTime, UpTo: base, Operations: ahead.Ops, AtLeast: ahead.Least,
			Seconds: max(s.Majority.At.Sub(writtenAt(chosen)).Seconds(), 0),
		}
	} else {
		base = chosen.OpTime
	}
	for _, m := range members {
		if m.Datacenter != s.Datacenter {
			continue
		}
		if base.before(m.OpTime) && s.Beyond.before(m.OpTime) {
			s.Beyond = m.OpTime
		}
		if m.Role == rolePrimary {
			s.Primary = m.Node
		}
	}
}

// writtenAt is when a member's last operation was written: exactly where a majority has
// it, else by the second.
func writtenAt(m MongoMember) time.Time {
	if m.Report != nil && m.Report.Majority != nil && m.Report.Majority.OpTime == m.OpTime {
		return m.Report.Majority.At
	}
	return time.Unix(int64(m.OpTime.Timestamp>>32), 0)
}

// sentences say it to a person.
func (a AtStake) sentences(datacenter string) []string {
	lines := []string{fmt.Sprintf("%s would go on from %s's last operation, %s", datacenter, a.Node, a.OpTime)}
	for _, side := range a.Sides {
		lines = append(lines, side.known())
	}
	for _, side := range a.Sides {
		if side.Datacenter != datacenter {
			lines = append(lines, side.cost(a.Node)...)
		}
	}
	return append(lines,
		"a write that was acknowledged with w:multiDC is in both datacenters and is not lost by this; one with w:majority can be",
		"with w:multiDC nothing is acknowledged before a member of another datacenter is back",
		"the members elsewhere lose their votes; when they are back: sluice mongo readmit")
}

// majorityTime is how a majority's time is written: MongoDB has it by the millisecond.
const majorityTime = "2006-01-02 15:04:05.000"

func (s MajoritySide) known() string {
	text := s.Datacenter + ": "
	if !s.Answers {
		text += "no member there answers; "
	}
	if s.Majority == nil {
		return text + "its last majority time is not known here"
	}
	text += fmt.Sprintf("last majority time %s UTC (operation %s)", s.Majority.At.UTC().Format(majorityTime), s.Majority.OpTime)
	if s.ToldBy == s.Member {
		return text + fmt.Sprintf(", told by %s %.1f s ago", s.Member, s.AgeSeconds)
	}
	return text + fmt.Sprintf(", as %s heard from %s, %.1f s ago", s.ToldBy, s.Member, s.AgeSeconds)
}

// cost says what node, which would be gone on from, has not of the side's log.
func (s MajoritySide) cost(node string) []string {
	var lines []string
	switch {
	case s.Lost != nil:
		least := ""
		if s.Lost.AtLeast {
			least = "at least "
		}
		lines = append(lines, fmt.Sprintf("acknowledged by a majority in %s and would be lost: what was written in the %.1f s after %s, up to %s (%s%d operations)",
			s.Datacenter, s.Lost.Seconds, s.Lost.After, s.Lost.UpTo, least, s.Lost.Operations))
	case s.Majority != nil:
		lines = append(lines, fmt.Sprintf("nothing that a majority is known to have acknowledged in %s would be lost: %s has it", s.Datacenter, node))
	}
	if s.Beyond != (OpTime{}) {
		lines = append(lines, fmt.Sprintf("operations in %s up to %s, which no majority is known to have, would be lost", s.Datacenter, s.Beyond))
	}
	switch {
	case s.Primary != "":
		lines = append(lines, fmt.Sprintf("%s is primary in %s and may acknowledge writes until it hears of this: all of them would be lost", s.Primary, s.Datacenter))
	case !s.Answers && s.Majority != nil:
		lines = append(lines, fmt.Sprintf("what %s acknowledged in the %.1f s since it was heard, if it went on for so long, nobody here knows: that would be lost", s.Datacenter, s.AgeSeconds))
	case !s.Answers:
		lines = append(lines, fmt.Sprintf("what %s acknowledged nobody here knows: what %s has not would be lost", s.Datacenter, node))
	}
	return lines
}
