package intentions

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestAPlanShowsWhatDiffersPerIntention(t *testing.T) {
	files := []Entry{
		{Destination: "db", Position: Position{"intentions/db.hcl", 2}, Rules: []Rule{
			{Source: "web", Destination: "db", Action: Allow},
			{Source: "api", Destination: "db", Action: Allow, Description: "new words"},
		}},
		{Destination: "web", Position: Position{"intentions/web.hcl", 2}, Rules: []Rule{{Source: "gateway", Destination: "web", Action: Allow}}},
		{Destination: "same", Rules: []Rule{{Source: "a", Destination: "same", Action: Deny}}},
	}
	live := []Entry{
		{Destination: "db", Version: 12, Rules: []Rule{
			{Source: "web", Destination: "db", Action: Deny},
			{Source: "api", Destination: "db", Action: Allow, Description: "old words"},
			{Source: "cron", Destination: "db", L7: true},
		}},
		{Destination: "old", Version: 13, Rules: []Rule{{Source: "*", Destination: "old", Action: Allow}}},
		{Destination: "same", Version: 14, Rules: []Rule{{Source: "a", Destination: "same", Action: Deny}}},
	}
	plan := Plan(files, live)
	var b strings.Builder
	if err := plan.Render(&b, false); err != nil {
		t.Fatal(err)
	}
	want := `  # db (intentions/db.hcl)
  ~ api -> db  description "old words" => "new words"
  - cron -> db  deny (HTTP permissions)
  ~ web -> db  deny => allow

  # old (in no file)
  - * -> old  allow

  # web (intentions/web.hcl)
  + gateway -> web  allow

Plan: 1 to add, 1 to change, 2 to delete. 1 to describe anew.
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
	if !plan.HasDrift() || plan.IsEmpty() {
		t.Error("a plan with changes says that there is no drift")
	}
	for i, version := range []uint64{12, 13, 0} {
		if got := plan.Changes[i].Entry.Version; got != version {
			t.Errorf("%s is to be written over version %d, want %d", plan.Changes[i].Destination, got, version)
		}
	}
	if text, err := json.Marshal(plan); err != nil || !strings.Contains(string(text), `"add":1,"change":1,"delete":2`) {
		t.Errorf("as JSON: %s, %v", text, err)
	}
}

func TestColourIsOnlyAddedWhenAskedFor(t *testing.T) {
	files := []Entry{{Destination: "a", Rules: []Rule{{Source: "b", Destination: "a", Action: Allow}}}}
	for _, color := range []bool{true, false} {
		var b strings.Builder
		if err := Plan(files, nil).Render(&b, color); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(b.String(), "\x1b["); got != color {
			t.Errorf("colour %v: %q", color, b.String())
		}
	}
}

func TestADescriptionThatDiffersIsWrittenButIsNoDrift(t *testing.T) {
	rule := Rule{Source: "a", Destination: "b", Action: Allow}
	described := rule
	described.Description = "why"
	plan := Plan([]Entry{{Destination: "b", Rules: []Rule{described}}}, []Entry{{Destination: "b", Version: 1, Rules: []Rule{rule}}})
	if plan.HasDrift() || plan.IsEmpty() || plan.Describe != 1 {
		t.Errorf("got %+v", plan)
	}
}

func TestAfterApplyingAPlanThereIsNothingLeftToDo(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		files, live := someEntries(random), someEntries(random)
		plan := Plan(files, live)
		after := apply(t, live, plan)
		if again := Plan(files, after); !again.IsEmpty() || again.HasDrift() {
			t.Fatalf("files %+v\nlive %+v\nleft %+v", files, live, again)
		}
		if want, got := NewSet(Flatten(files), Deny), NewSet(Flatten(after), Deny); !want.Equal(got) {
			t.Fatalf("applied, the sets differ: %v, %v", want.Rules(), got.Rules())
		}
		if equal := NewSet(Flatten(files), Deny).Equal(NewSet(Flatten(live), Deny)); equal == plan.HasDrift() {
			t.Fatalf("sets equal: %v, drift: %v", equal, plan.HasDrift())
		}
	}
}

// apply does to live what Consul does, with its compare-and-set.
func apply(t *testing.T, live []Entry, plan PlanResult) []Entry {
	t.Helper()
	held := byDestination(live)
	for _, change := range plan.Changes {
		if change.Entry.Version != held[change.Destination].Version {
			t.Fatalf("%s: the plan names version %d, held is %d", change.Destination, change.Entry.Version, held[change.Destination].Version)
		}
		if change.Op == Delete {
			delete(held, change.Destination)
			continue
		}
		entry := change.Entry
		entry.Version++
		held[change.Destination] = entry
	}
	var entries []Entry
	for _, entry := range held {
		entries = append(entries, entry)
	}
	return entries
}

func someEntries(random *rand.Rand) []Entry {
	byName := map[string]Entry{}
	for _, rule := range someRules(random) {
		if random.IntN(4) == 0 {
			rule.Description = "words"
		}
		entry := byName[rule.Destination]
		entry.Destination, entry.Version = rule.Destination, uint64(1+random.IntN(9))
		entry.Rules = append(entry.Rules, rule)
		byName[rule.Destination] = entry
	}
	var entries []Entry
	for _, entry := range byName {
		entries = append(entries, entry)
	}
	return entries
}
