package rig

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"sluice/lab"
	"sluice/lab/disk"
	"sluice/ledger"
)

func healthy() map[string]Role {
	return map[string]Role{
		"mongo-1": {Role: "primary", Term: 4},
		"mongo-2": {Role: "secondary", Term: 4, Peers: []Peer{{Node: "mongo-1"}}},
		"mongo-3": {Role: "secondary", Term: 4},
	}
}

func TestASetIsHealthyOnlyWithEveryMemberInItsPlace(t *testing.T) {
	h, err := Judge(healthy())
	if err != nil || h.Primary != "mongo-1" || !reflect.DeepEqual(h.Others, []string{"mongo-2", "mongo-3"}) {
		t.Fatalf("%+v, %v", h, err)
	}
	for name, change := range map[string]func(map[string]Role){
		"an agent is silent":     func(r map[string]Role) { delete(r, "mongo-2") },
		"two are primary":        func(r map[string]Role) { r["mongo-2"] = Role{Role: "primary", Term: 4} },
		"none is":                func(r map[string]Role) { r["mongo-1"] = Role{Role: "secondary", Term: 4} },
		"one is neither":         func(r map[string]Role) { r["mongo-3"] = Role{Role: "recovering", Term: 4} },
		"one is of another term": func(r map[string]Role) { r["mongo-3"] = Role{Role: "secondary", Term: 3} },
		"the primary is fenced":  func(r map[string]Role) { r["mongo-1"] = Role{Role: "primary", Term: 4, Fence: "no lease"} },
		"one has lost the primary": func(r map[string]Role) {
			r["mongo-3"] = Role{Role: "secondary", Term: 4, Peers: []Peer{{Node: "mongo-1", Lost: true}}}
		},
	} {
		roles := maps.Clone(healthy())
		change(roles)
		if h, err := Judge(roles); err == nil {
			t.Errorf("%s: healthy, %+v", name, h)
		}
	}
}

func TestAFaultGoesToTheLabAndAnythingElseToTheProgram(t *testing.T) {
	for step, want := range map[string]lab.FaultRequest{
		"fault kill mongo-1/mongod":           {Action: lab.FaultKill, Target: "mongo-1/mongod"},
		"fault cut mongo-1":                   {Action: lab.FaultCut, Target: "mongo-1"},
		"fault cut mongo-1 --direction in":    {Action: lab.FaultCut, Target: "mongo-1", Direction: "in"},
		"fault heal --all":                    {Action: lab.FaultHeal},
		"fault kill mongo-1/mongod --dry-run": {},
		"fault disk mongo-1 full":             {Action: lab.FaultDisk, Target: "mongo-1", Ailment: disk.Full},
		"fault disk mongo-1":                  {},
		"fault disk mongo-1 full --dry-run":   {},
		"fault clock mongo-1 --ahead 1h":      {},
		"fault cut mongo-1 in":                {},
		"mongo stepdown":                      {},
	} {
		got, ok := faultOf(strings.Fields(step))
		if ok != (want.Action != "") || ok && got != want {
			t.Errorf("%q: %+v, %t", step, got, ok)
		}
	}
}

func TestWritesAreCalmOnlyWithoutALongGapAtTheEnd(t *testing.T) {
	start := time.Now()
	book := ledger.Book{Header: ledger.Header{Started: start}, Writes: map[uint64]ledger.Write{}}
	for i := range 600 {
		if i >= 200 && i < 400 {
			continue // two seconds of silence
		}
		at := time.Duration(i) * 10 * time.Millisecond
		book.Writes[uint64(i)] = ledger.Write{Outcome: ledger.Acknowledged, At: at}
		book.Last = at
	}
	last := LastAcknowledged(book)
	if !last.Equal(start.Add(5990 * time.Millisecond)) {
		t.Fatalf("last %s", last)
	}
	if !calm(book, last, 1500*time.Millisecond) {
		t.Error("a gap that is over counts")
	}
	if calm(book, last, 3*time.Second) {
		t.Error("a gap within the time does not count")
	}
	if at := LastAcknowledged(ledger.Book{}); !at.IsZero() {
		t.Errorf("nothing was acknowledged at %s", at)
	}
}

func TestWhatTheProgramSaidIsInTheError(t *testing.T) {
	err := &ExitError{Args: []string{"up"}, Code: 4, Said: lastLines("a\nb\nc\n", 2)}
	if got := fmt.Sprint(err); got != "sluice up: exit code 4: b; c" {
		t.Error(got)
	}
}
