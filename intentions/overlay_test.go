package intentions

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var someNames = []string{Wildcard, "web", "gateway", "mongo-primary", "mongo-repl", "a", "nobody"}

func anyName(r *rand.Rand) string { return someNames[r.IntN(len(someNames))] }

// anyKey is a key below the prefix, well-formed or not.
func anyKey(r *rand.Rand) string {
	switch r.IntN(8) {
	case 0:
		return anyName(r)
	case 1:
		return anyName(r) + "/" + anyName(r) + "/" + anyName(r)
	case 2:
		return "/" + anyName(r)
	case 3:
		bytes := make([]byte, r.IntN(12))
		for i := range bytes {
			bytes[i] = byte(r.IntN(256))
		}
		return string(bytes)
	default:
		return anyName(r) + "/" + anyName(r)
	}
}

func anySet(r *rand.Rand) Set {
	var rules []Rule
	for range r.IntN(5) {
		rules = append(rules, Rule{Source: anyName(r), Destination: anyName(r), Action: []Action{Allow, Deny}[r.IntN(2)]})
	}
	return NewSet(rules, []Action{Allow, Deny}[r.IntN(2)])
}

// It must be impossible to allow anything by an overlay, whatever is in it.
func TestAnOverlayOnlyTakesAway(t *testing.T) {
	for seed := range uint64(20_000) {
		r := rand.New(rand.NewPCG(seed, 0))
		set := anySet(r)
		var entries []DenialEntry
		for range r.IntN(4) {
			entries = append(entries, DenialEntry{Key: anyKey(r), Value: []byte(`{"by":"x","allow":true,"action":"allow"}`)})
		}
		over := set.Under(NewOverlay(entries))
		for _, source := range someNames[1:] {
			for _, destination := range someNames[1:] {
				if over.Allows(source, destination) && !set.Allows(source, destination) {
					t.Fatalf("seed %d: %q allow %s -> %s, which %v denies", seed, entries, source, destination, set)
				}
				if got := over.Decide(source, destination); got.Allowed != over.Allows(source, destination) {
					t.Fatalf("seed %d: Decide %v, Allows %t", seed, got, over.Allows(source, destination))
				}
			}
		}
		for _, entry := range entries {
			source, destination, ok := strings.Cut(entry.Key, "/")
			if ok && deniable(source) && deniable(destination) && source != Wildcard && destination != Wildcard && over.Allows(source, destination) {
				t.Fatalf("seed %d: the key %q does not deny", seed, entry.Key)
			}
		}
	}
}

func TestAKeyThatCannotBeReadDeniesWhatCanBe(t *testing.T) {
	for key, want := range map[string]string{
		"web/mongo-primary":                 "web -> mongo-primary",
		"*/mongo-primary":                   "* -> mongo-primary",
		"web":                               "web -> *",
		"web/":                              "web -> *",
		"web/a/b":                           "web -> *",
		"/mongo-primary":                    "* -> mongo-primary",
		"we b/mongo-primary":                "* -> mongo-primary",
		"\xff/\xfe":                         "* -> *",
		strings.Repeat("x", 200) + "/mongo": "* -> mongo",
	} {
		denials := NewOverlay([]DenialEntry{{Key: key, Value: []byte("{}")}}).Denials()
		if len(denials) != 1 || denials[0].Edge() != want || (denials[0].Fault == "") != (key == want || key == "web/mongo-primary" || key == "*/mongo-primary") {
			t.Errorf("%q: %+v, want %s", key, denials, want)
		}
	}
	if denials := NewOverlay([]DenialEntry{{Key: ""}}).Denials(); len(denials) != 0 {
		t.Errorf("the folder itself denies %v", denials)
	}
}

func TestADenialIsToldWithWhoAndWhy(t *testing.T) {
	written := Denial{Source: "web", Destination: "mongo-primary", By: "ann", Reason: "stolen\nlaptop", At: time.Unix(1_700_000_000, 0)}
	key, value, err := DenialKey("sluice/deny", written)
	if err != nil || key != "sluice/deny/web/mongo-primary" {
		t.Fatalf("%q, %v", key, err)
	}
	set := NewSet([]Rule{{Source: "web", Destination: "mongo-primary", Action: Allow}}, Deny).
		Under(NewOverlay([]DenialEntry{{Key: "web/mongo-primary", Value: value}}))
	got := set.Decide("web", "mongo-primary").String()
	if want := "denied: web -> mongo-primary by break-glass, by ann at 2023-11-14T22:13:20Z: stolen laptop"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, name := range []string{"", "a/b", "a b", strings.Repeat("x", 129)} {
		if _, _, err := DenialKey("sluice/deny", Denial{Source: name, Destination: "web"}); err == nil {
			t.Errorf("%q was taken for the name of a service", name)
		}
	}
	if long := NewOverlay([]DenialEntry{{Key: "a/b", Value: fmt.Appendf(nil, `{"reason":%q}`, strings.Repeat("é", 500))}}).Denials()[0]; len(long.Reason) > 210 {
		t.Errorf("a reason of %d bytes was kept", len(long.Reason))
	}
}

func FuzzOverlay(f *testing.F) {
	f.Add("web/mongo-primary", []byte(`{"by":"ann"}`))
	f.Add("web", []byte("\x00"))
	f.Add("*/*/x", []byte(`{"at":"2030-01-01T00:00:00Z","reason":"`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		overlay := NewOverlay([]DenialEntry{{Key: key, Value: value}})
		if all := NewSet(nil, Deny).Under(overlay); all.Allows("web", "mongo-primary") {
			t.Errorf("%q, %q allow", key, value)
		}
		if key != "" && len(overlay.Denials()) != 1 {
			t.Errorf("%q denies nothing", key)
		}
	})
}
