package main

import (
	"errors"
	"strings"
	"testing"

	"sluice/consul"
	"sluice/lab"
	"sluice/lab/control"
	"sluice/web/settings"
)

func TestEachKeyIsListedWithWhatConsulHoldsAndWhetherThatIsValid(t *testing.T) {
	held := judgeSettings([]consul.KVEntry{
		{Key: "web/", Value: nil},
		{Key: "web/debug", Value: []byte("maybe\x1b[2J")},
		{Key: "web/maintenance", Value: []byte("on")},
		{Key: "web/shop", Value: []byte("open")},
		{Key: "web/tagline", Value: nil},
	})
	rows := map[string]string{}
	for _, h := range held {
		rows[h.Key] = h.shown() + " | " + h.verdict() + " | " + h.Default
		if h.Why == "" && (h.Meaning == "" || h.Takes == "") {
			t.Errorf("%s is not explained", h.Key)
		}
	}
	for key, want := range map[string]string{
		"web/debug":           "maybe\uFFFD[2J | no: want true or false | false",
		"web/maintenance":     "on | yes | false",
		"web/shop":            "open | no: web knows no such key | ",
		"web/tagline":         "empty | yes | ",
		"web/read_preference": "- | - | nearest",
	} {
		if rows[key] != want {
			t.Errorf("%s: %q, want %q", key, rows[key], want)
		}
	}
	if len(held) != 7 {
		t.Errorf("%d keys are listed: %v", len(held), rows)
	}
}

// TestARefusedValueIsShownInShortAndWhatIsTakenIsSaidOnce types nonsense at every key.
func TestARefusedValueIsShownInShortAndWhatIsTakenIsSaidOnce(t *testing.T) {
	refused := 0
	for _, key := range settings.Known() {
		for _, typed := range []string{"", "perhaps", "a b/c", "x,", "bell\a", "\xff", "§", strings.Repeat("long", 40), strings.Repeat("long", 800), strings.Repeat("x", 5000), strings.Repeat("a ", 100)} {
			result := sluice(t, "web", "config", "set", "--", key.Name, typed)
			if strings.Contains(result.errOut, "no lab is running") {
				continue // it was taken
			}
			refused++
			said, _, _ := strings.Cut(result.errOut, "\n")
			if result.code != exitFailed || !strings.HasPrefix(said, "sluice: "+key.Name+": ") || len(said) > 400 {
				t.Errorf("%s = %.20q: %s", key.Name, typed, result)
			}
			for _, words := range []string{"true or false", "nearest or primary", "blog, admin, topology, feed", "120 characters", "host names"} {
				if strings.Count(said, words) > 1 {
					t.Errorf("%s = %.20q: %q is said twice: %s", key.Name, typed, words, said)
				}
			}
			if typed == "" && !strings.Contains(said, "the value is empty") {
				t.Errorf("%s = nothing: %s", key.Name, said)
			}
		}
	}
	if refused < 30 {
		t.Errorf("only %d values were refused", refused)
	}
	if result := sluice(t, "web", "config", "get", strings.Repeat("key", 500)); result.code != exitFailed || len(result.errOut) > 400 {
		t.Errorf("a long key: %s", result)
	}
}

func TestAChangeSaysWhoRunsWithItAndWhoDoesNot(t *testing.T) {
	value := "true"
	change := settingChange{key: "web/debug", value: &value, inForce: "true"}
	result := settingResult{Datacenter: "dc1", Index: 77, RunningWith: []string{"web-1/web", "web-2/web"}, Seconds: 0.0421}
	if got, want := result.told(change, false), "web/debug is true in dc1, at Consul's index 77; web-1/web, web-2/web run with it after 42 ms"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	if got := result.told(change, true); !strings.Contains(got, "is not asked from here") {
		t.Errorf("where nobody can be asked: %q", got)
	}
	if got, want := (settingResult{Datacenter: "dc2"}).told(settingChange{key: "web/debug", inForce: "false"}, false), "web/debug is not set, so false in dc2; no web runs there that could take it over"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	pending := []lab.PendingProcess{{Process: "web-2/web", Reason: "stopped", Faulty: true}}
	err := enforcement{by: []string{"web-1/web"}, pending: pending}.unheard("taken over by", nil)
	var failure *control.Error
	if !errors.As(err, &failure) || failure.Code != exitInconclusive || failure.Message != "written to Consul; taken over by web-1/web; not yet by web-2/web (stopped)" || failure.Hint != "sluice fault heal web-2" {
		t.Errorf("one has not heard of it: %#v", err)
	}
}
