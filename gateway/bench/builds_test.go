package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestRowsOfOtherBuildsAreNotKept(t *testing.T) {
	folder := t.TempDir()
	earlier := newResults(time.Unix(0, 0), "a machine")
	earlier.builds = map[string]string{sluice: "one", nginx: "theirs"}
	for _, scenario := range []string{scenarioMTLS, scenarioPlain} {
		earlier.Samples = append(earlier.Samples, sample{Scenario: scenario, Peer: sluice}, sample{Scenario: scenario, Peer: nginx})
	}
	earlier.Values = []value{{Scenario: scenarioIdle, Peer: sluice, Name: "resident", Value: 5}}
	earlier.refuse(scenarioIdle, nginx, "x")
	if err := earlier.save(folder); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		claim  string
		builds map[string]string
		kept   int
	}{
		{"the same builds", map[string]string{sluice: "one", nginx: "theirs"}, 4},
		{"a peer that is not measured now", map[string]string{sluice: "one"}, 4},
		{"our program is another", map[string]string{sluice: "two", nginx: "theirs"}, 0},
	} {
		got, err := loadResults(folder, nil)
		if err != nil {
			t.Fatal(err)
		}
		got.builds = c.builds
		dropped := got.dropOtherBuilds()
		if len(got.Samples) != c.kept || (len(dropped) > 0) != (c.kept == 0) || c.kept == 0 && len(got.Values)+len(got.Refusals) > 0 {
			t.Errorf("%s: %d samples are kept, want %d; dropped %v", c.claim, len(got.Samples), c.kept, dropped)
		}
	}
	got, err := loadResults(folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	got.Samples[0].Build, got.builds = "", map[string]string{sluice: "one"} // as earlier versions of this program wrote it
	if dropped := got.dropOtherBuilds(); !slices.Equal(dropped, []string{scenarioOf(scenarioMTLS)}) {
		t.Errorf("a row that does not say its build: dropped %v", dropped)
	}
}

// scenarioOf returns the name of the scenario that has samples of that name.
func scenarioOf(name string) string {
	for _, s := range scenarios() {
		if slices.Contains(s.samples, name) {
			return s.name
		}
	}
	return ""
}

func TestABuildIsKnownByItsBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	var seen []string
	for _, content := range []string{"a", "b", "a"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		build, err := buildOf(path)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, build)
	}
	if seen[0] == seen[1] || seen[0] != seen[2] || len(seen[0]) != 12 {
		t.Error(seen)
	}
	if _, err := buildOf(path + ".absent"); err == nil {
		t.Error("a file that is not there has a build")
	}
}
