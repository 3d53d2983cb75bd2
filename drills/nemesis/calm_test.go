package nemesis

import (
	"errors"
	"strings"
	"testing"
	"time"

	"sluice/drills/rig"
	"sluice/ledger"
)

func TestAFalseAlarmFailsTheCalm(t *testing.T) {
	passed := ledger.Report{Verdict: ledger.Pass, Sent: 100}
	for name, c := range map[string]struct {
		report  CalmReport
		checked ledger.Report
		err     error
		want    ledger.Verdict
	}{
		"nothing happened":      {CalmReport{}, passed, nil, ledger.Pass},
		"an election":           {CalmReport{Elections: 1}, passed, nil, ledger.Fail},
		"a fence":               {CalmReport{Fences: 1}, passed, nil, ledger.Fail},
		"a loss":                {CalmReport{}, ledger.Report{Verdict: ledger.Fail, Reasons: []string{"1 lost"}}, nil, ledger.Fail},
		"a ledger not judged":   {CalmReport{}, ledger.Report{Verdict: ledger.Inconclusive}, nil, ledger.Inconclusive},
		"a lab that broke down": {CalmReport{}, passed, errors.New("the set is not healthy"), ledger.Inconclusive},
	} {
		c.report.Verdict = ledger.Inconclusive
		c.report.judge(c.checked, c.err)
		if c.report.Verdict != c.want {
			t.Errorf("%s: %s, want %s (%s)", name, c.report.Verdict, c.want, strings.Join(c.report.Reasons, "; "))
		}
	}
}

func TestAnAlarmThatIsForgottenIsCounted(t *testing.T) {
	cut := 0.5
	fence := rig.Transition{From: "primary", To: "primary", Detected: time.Unix(7, 0), Cut: &cut}
	served := rig.Transition{From: "primary", To: "primary", Detected: time.Unix(8, 0)}
	first := watchCalm(map[string]rig.Role{
		"mongo-1": {Term: 4, Transitions: []rig.Transition{fence, served}},
		"mongo-2": {Term: 5},
	})
	if first.term != 5 || len(first.fences) != 1 {
		t.Fatalf("%+v", first)
	}
	second := watchCalm(map[string]rig.Role{"mongo-1": {Term: 4}})
	second.merge(first)
	if second.term != 5 || len(second.fences) != 1 {
		t.Errorf("%+v", second)
	}
}
