package heartbeat

import (
	"testing"
	"time"

	"sluice/mongo-agent/role"
)

func at(ms int) time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(ms) * time.Millisecond)
}

const limit = 450 * time.Millisecond

func TestSilenceBeyondTheLimitIsALoss(t *testing.T) {
	b := newBook([]string{"b", "c"}, limit, at(0))
	for ms := 25; ms <= 450; ms += 25 {
		if b.tick(at(ms), limit/2) {
			t.Fatalf("lost after %d ms", ms)
		}
	}
	if !b.tick(at(475), limit/2) || len(b.view().Lost()) != 2 {
		t.Errorf("lost: %v", b.view().Lost())
	}
	if !b.answered("b", at(470), at(480), Status{Node: "b"}) {
		t.Error("a return is no news")
	}
	if lost := b.view().Lost(); len(lost) != 1 || lost[0] != "c" {
		t.Errorf("lost: %v", lost)
	}
}

func TestWhoDidNotRunHimselfLosesNobody(t *testing.T) {
	b := newBook([]string{"b"}, limit, at(0))
	b.answered("b", at(0), at(1), Status{Node: "b"})
	b.tick(at(25), limit/2)
	if b.tick(at(10_000), limit/2) {
		t.Error("a pause of its own is taken for the other's silence")
	}
	for ms := 10_025; ms <= 10_450; ms += 25 {
		b.tick(at(ms), limit/2)
	}
	if len(b.view().Lost()) != 0 {
		t.Error("no new limit after the pause")
	}
	if !b.tick(at(10_475), limit/2) {
		t.Error("never lost after the pause")
	}
}

func TestARefusalIsALossAtOnce(t *testing.T) {
	b := newBook([]string{"b"}, limit, at(0))
	if !b.unreachable("b", "connection refused", at(1)) || b.unreachable("b", "connection refused", at(2)) {
		t.Error("the first refusal is news, the second is not")
	}
	if p, _ := b.view().Peer("b"); !p.Lost || p.Reason != "connection refused" || !p.Since.Equal(at(1)) {
		t.Errorf("%+v", p)
	}
}

func TestWhatIsToldIsNoSignOfLife(t *testing.T) {
	b := newBook([]string{"b"}, limit, at(0))
	for ms := 25; ms <= 475; ms += 25 {
		b.told(Status{Node: "b", Number: uint64(ms)}, at(0))
		b.tick(at(ms), limit/2)
	}
	if len(b.view().Lost()) != 1 {
		t.Error("one who cannot be asked counts as reached, because he talks")
	}
}

func TestOlderNewsIsIgnoredUnlessTheAgentStartedAnew(t *testing.T) {
	b := newBook([]string{"b"}, limit, at(0))
	b.told(Status{Node: "b", Process: "x", Number: 5, Term: 7}, at(1))
	if b.told(Status{Node: "b", Process: "x", Number: 4, Term: 6}, at(1)) {
		t.Error("older news is news")
	}
	if !b.told(Status{Node: "b", Process: "y", Number: 1, Term: 6}, at(1)) {
		t.Error("a new process cannot make itself heard")
	}
	if b.told(Status{Node: "stranger", Process: "z", Number: 1}, at(1)) {
		t.Error("a stranger is listened to")
	}
}

func TestOperationsAloneAreNoNews(t *testing.T) {
	b := newBook([]string{"b"}, limit, at(0))
	b.told(Status{Node: "b", Number: 1, OpTime: role.OpTime{Timestamp: 1}}, at(1))
	if b.told(Status{Node: "b", Number: 2, OpTime: role.OpTime{Timestamp: 2}}, at(1)) {
		t.Error("each operation wakes everybody")
	}
	if p, _ := b.view().Peer("b"); p.Status.OpTime.Timestamp != 2 {
		t.Error("and is not even kept")
	}
	if !b.told(Status{Node: "b", Number: 3, OpTime: role.OpTime{Timestamp: 3}, Round: "a@1"}, at(1)) {
		t.Error("the log that was asked for is no news")
	}
}

func TestTheLeaseLastsFromTheQuestionThatMadeAMajority(t *testing.T) {
	cases := []struct {
		confirmed []int // when the newest answered question was sent, 0 is never
		want      int   // when the lease ends, 0 is never had
	}{
		{nil, 450 + 1000}, // alone: by itself, from now on
		{[]int{0, 0}, 0},
		{[]int{500, 0}, 950},
		{[]int{500, 800}, 1250},
		{[]int{500, 800, 0, 0}, 950},
		{[]int{500, 0, 0, 0}, 0},
		{[]int{500, 600, 700, 800}, 1150},
		{[]int{0}, 0}, // of two, both make a majority
		{[]int{900}, 1350},
	}
	for _, c := range cases {
		var v View
		for _, ms := range c.confirmed {
			p := Peer{Known: true}
			if ms > 0 {
				p.Confirmed = at(ms)
			}
			v.Peers = append(v.Peers, p)
		}
		got := v.Lease(limit, at(1000))
		if c.want == 0 && !got.IsZero() || c.want != 0 && !got.Equal(at(c.want)) {
			t.Errorf("%v: until %v, want %d ms", c.confirmed, got.Sub(at(0)), c.want)
		}
	}
}

// TestALeaseEndsBeforeItsWitnessTakesItsHolderForLost: whatever the delays are and
// however long ago the witness heard an answer of the holder's, as long as both
// clocks run alike.
func TestALeaseEndsBeforeItsWitnessTakesItsHolderForLost(t *testing.T) {
	for delay := 0; delay < 400; delay += 7 {
		for silence := 0; silence < 3000; silence += 111 {
			holder := newBook([]string{"b", "c"}, limit, at(0))
			witness := newBook([]string{"a"}, limit, at(0))
			witness.answered("a", at(4000-silence), at(4000-silence), Status{Node: "a"})
			// The holder asks at 4000, the witness answers on arrival.
			witness.told(Status{Node: "a"}, at(4000+delay))
			holder.answered("b", at(4000), at(4000+2*delay), Status{Node: "b"})
			until := holder.view().Lease(limit, at(4000+2*delay))
			witness.looked = at(4000 + delay)
			for ms := 4000 + delay; ms < 6000; ms++ {
				witness.tick(at(ms), limit/2)
				if len(witness.view().Lost()) > 0 {
					if at(ms).Before(until) {
						t.Fatalf("delay %d, silence %d: lost at %d ms, and the lease lasts until %v", delay, silence, ms, until.Sub(at(0)))
					}
					break
				}
			}
		}
	}
}
