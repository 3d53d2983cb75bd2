package vitals

import (
	"strings"
	"testing"
	"time"
)

func TestTheLettersOfTheLeader(t *testing.T) {
	cases := []struct {
		letters string
		want    State
	}{
		{"S", Running},
		{"R", Running},
		{"D", Running}, // for a moment: normal
		{"T", Stopped},
		{"ST", Stopped},
		{"TS", Running},
		{"t", Running},   // a followed system call
		{"tSt", Running}, // and another
		{"tt", Stopped},
		{"tT", Stopped},
		{"ttS", Running},
		{"Z", Gone},
		{"X", Gone},
		{"SI", Running},
	}
	for _, c := range cases {
		j := judge{limit: time.Second}
		for _, letter := range []byte(c.letters) {
			j.read(time.Now(), letter)
		}
		got, reason := j.state()
		if got != c.want || (reason == "") != (got == Running) {
			t.Errorf("letters %s mean %v (%q), want %v", c.letters, got, reason, c.want)
		}
	}
}

func TestOnlyOneAndTheSameWaitIsADisk(t *testing.T) {
	d := func(id int, switches uint64) []thread { return []thread{{id, "WTJourn.Flusher", switches}} }
	cases := []struct {
		name  string
		scans [][]thread // one each second
		want  State
	}{
		{"never", [][]thread{nil, nil, nil}, Running},
		{"too short", [][]thread{d(7, 1), d(7, 1)}, Running},
		{"long", [][]thread{d(7, 1), d(7, 1), d(7, 1)}, Disk},
		{"ran in between", [][]thread{d(7, 1), d(7, 2), d(7, 2)}, Running},
		{"many short ones", [][]thread{d(7, 1), d(7, 2), d(7, 3), d(7, 4)}, Running},
		{"gone in between", [][]thread{d(7, 1), nil, d(7, 1)}, Running},
		{"different threads", [][]thread{d(7, 1), d(8, 1), d(9, 1)}, Running},
		{"over", [][]thread{d(7, 1), d(7, 1), d(7, 1), nil}, Running},
		{"one of two", [][]thread{append(d(7, 1), d(8, 1)...), append(d(8, 2), d(7, 1)...), append(d(7, 1), d(8, 3)...)}, Disk},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			j := judge{limit: 2 * time.Second}
			now := time.Now()
			for _, scan := range c.scans {
				j.read(now, 'S')
				j.scanned(now, scan)
				now = now.Add(time.Second)
			}
			got, reason := j.state()
			if got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
			if got == Disk && !strings.Contains(reason, "thread 7 (WTJourn.Flusher)") {
				t.Errorf("reason %q does not name the thread", reason)
			}
		})
	}
}

func TestAStoppedProcessIsStoppedWhateverItsThreadsWaitedFor(t *testing.T) {
	j := judge{limit: time.Second}
	now := time.Now()
	j.scanned(now, []thread{{7, "x", 1}})
	now = now.Add(2 * time.Second)
	j.scanned(now, []thread{{7, "x", 1}})
	j.read(now, 'T')
	if got, _ := j.state(); got != Stopped {
		t.Errorf("%v, want stopped", got)
	}
}
