package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAFaultIsOnTheListBeforeItIsMadeAndAfterItFailed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "faults.json")
	s := &Supervisor{faults: faultBook{path: path}}
	onDisk := func() string {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	for _, failure := range []error{nil, errors.New("half done")} {
		step := faultStep{makes: FaultRecord{Action: FaultKill, Target: "a/b"}}
		seen := false
		step.do = func(context.Context) error {
			seen = s.faults.has(FaultKill, "a/b") && strings.Contains(onDisk(), `"a/b"`)
			return failure
		}
		if err := s.takeFault(t.Context(), step); !errors.Is(err, failure) {
			t.Errorf("takeFault = %v, want %v", err, failure)
		}
		if !seen {
			t.Error("the fault was made before it was on the list")
		}
		if got := s.faults.list(); len(got) != 1 || got[0].Since.IsZero() {
			t.Errorf("after the fault the list is %+v", got)
		}
	}
}

func TestAFaultLeavesTheListOnceItIsHealed(t *testing.T) {
	s := &Supervisor{faults: faultBook{path: filepath.Join(t.TempDir(), "faults.json")}}
	for _, record := range []FaultRecord{{Action: FaultKill, Target: "a/b"}, {Action: FaultKill, Target: "a/c"}, {Action: FaultStop, Target: "a/b"}} {
		if err := s.faults.add(record); err != nil {
			t.Fatal(err)
		}
	}
	heal := faultStep{target: "a/b", heals: []FaultAction{FaultKill, FaultTerm}, do: func(context.Context) error { return errors.New("it does not start") }}
	if err := s.takeFault(t.Context(), heal); err == nil || len(s.faults.list()) != 3 {
		t.Errorf("a heal that failed: %v, list %+v", err, s.faults.list())
	}
	heal.do = func(context.Context) error { return nil }
	if err := s.takeFault(t.Context(), heal); err != nil {
		t.Fatal(err)
	}
	if got := s.faults.list(); len(got) != 2 || s.faults.has(FaultKill, "a/b") || !s.faults.has(FaultStop, "a/b") || !s.faults.has(FaultKill, "a/c") {
		t.Errorf("after the heal the list is %+v", got)
	}
}

func TestAKeptSetKeepsItsProfile(t *testing.T) {
	layout, err := NewLayout(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ kept, wanted, got, refusal string }{
		{"", "", ProfileFast, ""},
		{"", ProfileStock, ProfileStock, ""},
		{"", "eager", "", "want fast or stock"},
		{ProfileStock, "", ProfileStock, ""},
		{ProfileStock, ProfileStock, ProfileStock, ""},
		{ProfileStock, ProfileFast, "", "was made with profile stock"},
	} {
		if c.kept != "" {
			if err := keepProfile(layout, c.kept); err != nil {
				t.Fatal(err)
			}
		}
		got, err := chooseProfile(layout, c.wanted)
		if got != c.got || (err == nil) != (c.refusal == "") || err != nil && !strings.Contains(err.Error(), c.refusal) {
			t.Errorf("kept %q, wanted %q: %q, %v", c.kept, c.wanted, got, err)
		}
	}
}
