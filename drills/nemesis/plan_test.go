package nemesis

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestASeedReplaysItsSchedule(t *testing.T) {
	for seed := range uint64(50) {
		plan := Plan(seed, 100)
		if !reflect.DeepEqual(plan, Plan(seed, 100)) {
			t.Fatalf("seed %d gives two schedules", seed)
		}
		if !reflect.DeepEqual(plan[:10], Plan(seed, 10)) {
			t.Fatalf("seed %d begins differently when more is asked for", seed)
		}
	}
	if reflect.DeepEqual(Plan(1, 20), Plan(2, 20)) {
		t.Error("two seeds give the same schedule")
	}
}

func TestEveryKindIsDrawnAloneAndInPairs(t *testing.T) {
	alone, paired := map[string]bool{}, map[string]bool{}
	for _, step := range Plan(7, 5000) {
		for _, f := range step.Faults {
			shape := strings.NewReplacer("PRIMARY", "%s", "NEXT", "%s", "THIRD", "%s").Replace(f.Do)
			if len(step.Faults) == 1 {
				alone[shape] = true
			} else {
				paired[shape] = true
			}
		}
	}
	for _, k := range kinds() {
		if !alone[k.do] || !paired[k.do] {
			t.Errorf("%q: alone %t, in pairs %t", k.do, alone[k.do], paired[k.do])
		}
	}
}

func TestAStepCanBeMadeAndEnds(t *testing.T) {
	for _, step := range Plan(3, 5000) {
		if step.Hold < 2*time.Second || step.Hold > 8*time.Second || len(step.Faults) < 1 || len(step.Faults) > 2 {
			t.Fatalf("step %s", step)
		}
		if len(step.Faults) == 2 {
			first, second := step.Faults[0], step.Faults[1]
			if subject(first.Do) == subject(second.Do) || second.After >= 2*time.Second || overlap(first.Do, second.Do) {
				t.Fatalf("pair %s", step)
			}
		}
	}
}
