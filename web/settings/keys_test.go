package settings_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"sluice/web/settings"
)

func TestEveryKeyIsExplainedAndTakesItsDefaultAndItsWords(t *testing.T) {
	_, items, _ := settings.Parse(settings.Defaults(), nil, nil)
	known := settings.Known()
	if len(known) != len(items) {
		t.Fatalf("%d keys are known, %d are followed", len(known), len(items))
	}
	for i, key := range known {
		if key.Name != items[i].Key || key.Default != items[i].Value {
			t.Errorf("%s with the default %q is followed as %+v", key.Name, key.Default, items[i])
		}
		if key.Meaning == "" || key.Takes == "" {
			t.Errorf("%s is not explained", key.Name)
		}
		values := key.Words
		if key.Many {
			values = append(values[:len(values):len(values)], strings.Join(values, ","))
		}
		for _, value := range values {
			if _, err := settings.Judge(key.Name, []byte(value)); err != nil {
				t.Errorf("%s = %q is refused: %v", key.Name, value, err)
			}
		}
	}
}

// What is judged before it is written is judged as where it will hold.
func TestAValueIsJudgedBeforeItIsWrittenAsWhereItHolds(t *testing.T) {
	values := []string{
		"", "true", "TRUE", "on", "2", "maybe", "\xff", "primary", "nearest", "Nearest", "secondary", "blog", "blog, feed", "blog,shop", ",", "*", "* a",
		"a.example .example.org", "a:80", "..", "one line", "two\nlines", strings.Repeat("ä", 121), strings.Repeat("x", 5000), " 1 ",
	}
	refused, taken := 0, 0
	for _, key := range settings.Known() {
		for _, value := range values {
			_, items, _ := settings.Parse(settings.Defaults(), nil, map[string][]byte{key.Name: []byte(value)})
			item := at(items, key.Name)
			inForce, err := settings.Judge(key.Name, []byte(value))
			switch {
			case err != nil && err.Error() == item.Why:
				refused++
			case err == nil && item.Why == "" && inForce == item.Value:
				taken++
			default:
				t.Errorf("%s = %q is judged %q, %v, and held as %+v", key.Name, value, inForce, err, item)
			}
		}
	}
	if refused == 0 || taken == 0 {
		t.Errorf("%d were refused and %d taken", refused, taken)
	}
	if _, err := settings.Judge("web/shop", []byte("true")); err == nil {
		t.Error("a key that does not exist takes a value")
	}
}

func TestAReportSaysWhatIsInForceAndUpToWhichIndex(t *testing.T) {
	synctest.Test(t, reportSaysWhatIsInForce)
}

func reportSaysWhatIsInForce(t *testing.T) {
	source := &kv{changed: make(chan struct{})}
	live := settings.NewLive(source, slog.New(slog.DiscardHandler), nil)
	report := func() settings.Report {
		answer := httptest.NewRecorder()
		live.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/settings", nil))
		var report settings.Report
		if err := json.Unmarshal(answer.Body.Bytes(), &report); err != nil {
			t.Fatal(err)
		}
		return report
	}
	if err := report().RunsWith("web/debug", "false", 1); err == nil || !strings.Contains(err.Error(), "index 0") {
		t.Errorf("before the first answer: %v", err)
	}
	source.put("web/debug", "true")
	if err := report().RunsWith("web/debug", "true", 1); err == nil || !strings.Contains(err.Error(), `runs with "false"`) {
		t.Errorf("heard of, and not taken over: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer func() { cancel(); synctest.Wait() }()
	go func() { _ = live.Run(ctx) }()
	synctest.Wait()
	if err := report().RunsWith("web/debug", "true", 1); err != nil {
		t.Errorf("taken over: %v", err)
	}
	if err := report().RunsWith("web/debug", "true", 2); err == nil {
		t.Error("an index that is still to come counts as heard of")
	}
	if err := report().RunsWith("web/shop", "", 0); err == nil {
		t.Error("it runs with a key that does not exist")
	}
}
