package failover

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/drills/rig"
	"sluice/ledger"
	"sluice/mesh"
)

func row(t *testing.T, name string) Row {
	t.Helper()
	rows, err := Select([]string{name})
	if err != nil || len(rows) != 1 {
		t.Fatalf("row %s: %v", name, err)
	}
	return rows[0]
}

func TestARowIsSelectedByItsName(t *testing.T) {
	if _, err := Select([]string{"kill-mongod", "meteor"}); err == nil || !strings.Contains(err.Error(), "stop-agent") {
		t.Errorf("an unknown row: %v", err)
	}
	all, err := Select(nil)
	if err != nil || len(all) != len(Names()) {
		t.Errorf("no names: %d rows, %v", len(all), err)
	}
	names := Names()
	slices.Sort(names)
	if len(slices.Compact(names)) != len(all) {
		t.Errorf("a name is there twice: %q", names)
	}
}

func TestEveryStepNamesNodes(t *testing.T) {
	h := rig.Health{Primary: "mongo-2", Others: []string{"mongo-3", "mongo-1"}}
	for _, row := range Rows() {
		for _, step := range slices.Concat(row.Before, row.Do, row.undo()) {
			text := named(step, h)
			for _, word := range strings.Fields(text) {
				if word == strings.ToUpper(word) && strings.ContainsAny(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
					t.Errorf("%s: %q", row.Name, text)
				}
			}
		}
	}
	if got := named("fault restart THIRD/mongod", h); got != "fault restart mongo-1/mongod" {
		t.Error(got)
	}
}

func results(gaps ...float64) []Result {
	var out []Result
	for i, gap := range gaps {
		out = append(out, Result{Row: "kill-mongod", Profile: fast, Via: "port", Run: i, GapMS: gap, Verdict: ledger.Pass})
	}
	return out
}

func TestOnlyRunsThatProveSomethingAreCounted(t *testing.T) {
	kill := row(t, "kill-mongod")
	runs := results(90, 30, 60, 1000, 2000, 3000)
	runs[3].Problem = "the lab broke"
	runs[4].Problem = "it broke again"
	runs[5].Verdict = ledger.Inconclusive
	s := Summarize(kill, fast, "port", append(runs, Result{Row: "kill-mongod", Profile: stock, Via: "port", GapMS: 11000, Verdict: ledger.Pass}))
	if s.N != 3 || s.MedianMS != 60 || s.LongestMS != 90 || s.Unproved != 1 || len(s.Problems) != 2 {
		t.Errorf("%+v", s)
	}
	if s.Met(kill) {
		t.Error("a bar is met although a run was not proved")
	}
	if s := Summarize(kill, stock, "port", []Result{{Row: "kill-mongod", Profile: stock, Via: "port", GapMS: 11000, Verdict: ledger.Pass}}); s.N != 1 {
		t.Errorf("the stock profile runs do not count: %+v", s)
	}
}

func TestABarIsMetOnlyWithoutErrorsAndLoss(t *testing.T) {
	kill, stop, disk := row(t, "kill-mongod"), row(t, "stop-mongod"), row(t, "disk-full")
	for name, c := range map[string]struct {
		row  Row
		s    Summary
		want bool
	}{
		"within":            {kill, Summary{N: 3, MedianMS: 100, LongestMS: 400}, true},
		"median above":      {kill, Summary{N: 3, MedianMS: 101, LongestMS: 400}, false},
		"longest above":     {kill, Summary{N: 3, MedianMS: 100, LongestMS: 401}, false},
		"an error":          {kill, Summary{N: 3, MedianMS: 1, LongestMS: 1, UserErrors: 1}, false},
		"a loss":            {kill, Summary{N: 3, MedianMS: 1, LongestMS: 1, Lost: 1}, false},
		"no run":            {kill, Summary{}, false},
		"slow on return":    {stop, Summary{N: 3, MedianMS: 1, LongestMS: 1, BackLongestMS: 101}, false},
		"documented errors": {disk, Summary{N: 3, MedianMS: 9e9, UserErrors: 7}, true},
		"documented loss":   {disk, Summary{N: 3, Lost: 1}, false},
	} {
		if got := c.s.Met(c.row); got != c.want {
			t.Errorf("%s: met is %t", name, got)
		}
	}
}

func TestTheTableShowsBothProfilesAndEveryLoss(t *testing.T) {
	runs := append(results(30, 50), Result{Row: "kill-mongod", Profile: stock, Via: "members", GapMS: 11000, Lost: 2, Verdict: ledger.Fail})
	table := Table([]Row{row(t, "kill-mongod")}, runs)
	if !strings.Contains(table, "| <= 100 / 400 | 40 / 50 (n=2) | yes | 0 | 2 | - | - | 11000 / 11000 (n=1) |") {
		t.Error(table)
	}
}

func TestAWeakWriteMayBeLostWithItsPrimaryAndNotLater(t *testing.T) {
	started := time.Now()
	book := ledger.Book{
		Header: ledger.Header{Run: "r", Started: started},
		Writes: map[uint64]ledger.Write{
			1: {Outcome: ledger.Acknowledged, At: time.Second},
			2: {Outcome: ledger.Acknowledged, At: 3 * time.Second},
			3: {Outcome: ledger.Unknown, At: 4 * time.Second},
		},
	}
	end := started.Add(2 * time.Second)
	judge := func(documents ...string) Result {
		lost := ledger.Finding{Count: len(documents), Documents: documents}
		report := ledger.Report{Verdict: ledger.Fail, Reasons: []string{"lost"}, Lost: lost}
		r := Result{Verdict: report.Verdict, Reasons: report.Reasons, Lost: lost.Count}
		var n int
		r.Later, n = later(book, report, end)
		r.forgive(report, n)
		return r
	}
	if r := judge("r/1"); r.Lost != 0 || r.Verdict != ledger.Pass || r.Later != 1 {
		t.Errorf("lost with its primary: %+v", r)
	}
	if r := judge("r/1", "r/2"); r.Lost != 1 || r.Verdict != ledger.Fail {
		t.Errorf("acknowledged by the old primary after its return: %+v", r)
	}
	r := Result{Lost: 30}
	r.forgive(ledger.Report{Verdict: ledger.Fail, Lost: ledger.Finding{Count: 30, Documents: []string{"r/1"}}}, 0)
	if r.Problem == "" || r.Lost != 30 {
		t.Errorf("losses that are not named are forgiven: %+v", r)
	}
}

func TestATimelineIsInOrderAndBeginsAtTheFault(t *testing.T) {
	at := time.Now()
	ms := func(n int) time.Time { return at.Add(time.Duration(n) * time.Millisecond) }
	number := func(f float64) *float64 { return &f }
	roles := map[string]rig.Role{
		"mongo-1": {Transitions: []rig.Transition{{From: "secondary", To: "primary", Detected: ms(-60000)}, {From: "primary", To: "dead", Detected: ms(10), Cut: number(2)}}},
		"mongo-2": {
			Transitions: []rig.Transition{{From: "secondary", To: "primary", Detected: ms(20), Accepted: number(1), Registered: number(9)}},
			Elections:   []rig.Election{{At: ms(11), Why: "gone", Outcome: "won", Decided: 1, Elected: number(5)}, {At: ms(-500), Outcome: "won", Elected: number(1)}},
		},
	}
	gap := ledger.Gap{Began: ms(-3), Ended: ms(29)}
	var got []string
	for _, m := range Timeline(at, roles, []mesh.Switch{{Lost: ms(12), FirstReleased: ms(24)}}, gap) {
		got = append(got, m.What)
	}
	want := []string{
		"last acknowledged write before", "old primary known to be over", "failure known: gone", "its connections cut",
		"step-up decided", "web noticed", "elected", "writable", "its port accepts", "first held connection released",
		"first acknowledged write", "registered",
	}
	slices.Sort(got[3:6])
	slices.Sort(want[3:6])
	slices.Sort(got[10:])
	slices.Sort(want[10:])
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestAResultReplacesOnlyTheMarkedPart(t *testing.T) {
	page := "before\n" + begin + "\nold\n" + end + "\nafter\n"
	changed, err := Insert(page, "new\n")
	if err != nil || changed != "before\n"+begin+"\nnew\n"+end+"\nafter\n" {
		t.Errorf("%q, %v", changed, err)
	}
	if again, err := Insert(changed, "new"); err != nil || again != changed {
		t.Errorf("a second time: %q, %v", again, err)
	}
	if _, err := Insert("no marks", "new"); err == nil {
		t.Error("a page without marks is changed")
	}
}
