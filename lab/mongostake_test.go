package lab

import (
	"strings"
	"testing"
	"time"
)

// written is the time of the majority of the primary's side, by its own clock.
func written(second int64, ms int) time.Time {
	return time.Unix(second, int64(ms)*int64(time.Millisecond)).UTC()
}

// parted are dc2, which heard dc1's primary last 37 s ago, and dc1, whose members go on
// with a majority of their own.
func parted() []MongoMember {
	ago := 37_000.0
	toldBy := func(p MajorityPoint) *ToldMajority { return &ToldMajority{MajorityPoint: p, ToldMS: 400} }
	old, later := MajorityPoint{at(100, 2), written(100, 250)}, MajorityPoint{at(103, 5), written(103, 750)}
	heard := PeerReport{Node: "mongo-1", Lost: true, Role: rolePrimary, HeardMS: &ago, OpTime: at(100, 3), Majority: old}
	return []MongoMember{
		{Node: "mongo-1", Datacenter: "dc1", Report: &AgentReport{Role: rolePrimary, Term: 5, OpTime: at(103, 7), Majority: toldBy(later)}},
		{Node: "mongo-2", Datacenter: "dc1", Report: &AgentReport{Role: roleSecondary, Term: 5, OpTime: at(103, 6), Majority: toldBy(old)}},
		{Node: "mongo-4", Datacenter: "dc2", Report: &AgentReport{Role: roleSecondary, Term: 5, OpTime: at(100, 2), Majority: toldBy(old), Peers: []PeerReport{heard}}},
		{Node: "mongo-5", Datacenter: "dc2", Report: &AgentReport{Role: roleSecondary, Term: 5, OpTime: at(100, 1), Majority: toldBy(old)}},
	}
}

// stake is what promoting dc2 would cost.
func stake(t *testing.T, members []MongoMember) (dc1, dc2 MajoritySide, text string) {
	t.Helper()
	status := judgeSet(members)
	chosen, err := promotable(status, "dc2")
	if err != nil {
		t.Fatal(err)
	}
	s := stakeOf(status, "dc2", chosen)
	if len(s.Sides) != 2 || s.Sides[0].Datacenter != "dc1" || s.Node != "mongo-4" {
		t.Fatalf("%+v", s)
	}
	return s.Sides[0], s.Sides[1], strings.Join(s.sentences("dc2"), "\n")
}

// wantLines wants each of the lines to be in the text, and nothing of absent.
func wantLines(t *testing.T, text string, lines []string, absent ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line) {
			t.Errorf("it does not say %q:\n%s", line, text)
		}
	}
	for _, line := range absent {
		if strings.Contains(text, line) {
			t.Errorf("it says %q:\n%s", line, text)
		}
	}
}

func TestAPromotionTellsTheLastMajorityTimeOfEachSideAndWhatWasAcknowledgedBetween(t *testing.T) {
	dc1, dc2, text := stake(t, parted())
	if !dc1.Answers || dc1.Majority.OpTime != at(103, 5) || dc1.Member != "mongo-1" || !dc2.Answers || dc2.Majority.OpTime != at(100, 2) {
		t.Errorf("dc1 %+v, dc2 %+v", dc1, dc2)
	}
	if lost := dc1.Lost; lost == nil || *lost != (LostSpan{After: at(100, 2), UpTo: at(103, 5), Seconds: 3.5, Operations: 5, AtLeast: true}) {
		t.Errorf("lost: %+v", lost)
	}
	if dc1.Beyond != at(103, 7) || dc1.Primary != "mongo-1" || dc2.Lost != nil {
		t.Errorf("dc1 %+v, dc2 %+v", dc1, dc2)
	}
	wantLines(t, text, []string{
		"dc1: last majority time 1970-01-01 00:01:43.750 UTC (operation 00:01:43.5 (term 5)), told by mongo-1 0.4 s ago",
		"dc2: last majority time 1970-01-01 00:01:40.250 UTC",
		"would be lost: what was written in the 3.5 s after 00:01:40.2 (term 5), up to 00:01:43.5 (term 5) (at least 5 operations)",
		"mongo-1 is primary in dc1 and may acknowledge writes until it hears of this",
	}, "no member there answers", "nobody here knows")
}

func TestOfASideThatIsDeadTheLastThatWasHeardIsToldAndHowOldItIs(t *testing.T) {
	members := parted()
	members[0].Report, members[1].Report = nil, nil
	dc1, _, text := stake(t, members)
	if dc1.Answers || dc1.Majority == nil || dc1.Majority.OpTime != at(100, 2) || dc1.Member != "mongo-1" || dc1.ToldBy != "mongo-4" || dc1.AgeSeconds != 37 {
		t.Errorf("%+v", dc1)
	}
	if dc1.Lost != nil || dc1.Beyond != at(100, 3) || dc1.Primary != "" {
		t.Errorf("%+v", dc1)
	}
	wantLines(t, text, []string{
		"dc1: no member there answers; last majority time 1970-01-01 00:01:40.250 UTC (operation 00:01:40.2 (term 5)), as mongo-4 heard from mongo-1, 37.0 s ago",
		"nothing that a majority is known to have acknowledged in dc1 would be lost: mongo-4 has it",
		"operations in dc1 up to 00:01:40.3 (term 5), which no majority is known to have, would be lost",
		"what dc1 acknowledged in the 37.0 s since it was heard, if it went on for so long, nobody here knows",
	}, "is primary in dc1")
}

func TestOfASideThatNobodyHasHeardNothingIsMadeUp(t *testing.T) {
	members := parted()
	members[0].Report, members[1].Report, members[2].Report.Peers = nil, nil, nil
	dc1, _, text := stake(t, members)
	if dc1.Majority != nil || dc1.Lost != nil || dc1.Answers {
		t.Errorf("%+v", dc1)
	}
	wantLines(t, text, []string{"its last majority time is not known here", "what dc1 acknowledged nobody here knows"}, "nothing that a majority")
}

func TestAnAgentWhoseMongodIsGoneTellsOnlyWhatItKnewBefore(t *testing.T) {
	members := parted()
	members[1].Report = nil
	members[0].Report.Role, members[0].Report.Majority.ToldMS = "dead", 12_000
	dc1, _, text := stake(t, members)
	if dc1.Answers || dc1.Majority.OpTime != at(103, 5) || dc1.AgeSeconds != 12 {
		t.Errorf("%+v", dc1)
	}
	wantLines(t, text, []string{"no member there answers; last majority time 1970-01-01 00:01:43.750 UTC", "in the 12.0 s since it was heard"})
}
