package tlsfiles_test

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sluice/gateway/tlsfiles"
)

// words is a change in a line.
func words(c tlsfiles.Change) string {
	if c.Problem != nil {
		return c.Problem.Error()
	}
	return "+" + strings.Join(c.Added, ",") + " -" + strings.Join(c.Removed, ",")
}

func TestRootsAreTakenAsAWholeOrNotAtAll(t *testing.T) {
	dir, log := t.TempDir(), &bytes.Buffer{}
	one, key := mint(t, 1, tomorrow(), "a.example")
	two, _ := mint(t, 2, tomorrow(), "b.example")
	write(t, dir, map[string]string{"roots.pem": one})
	changes, told := 0, []string(nil)
	roots, err := tlsfiles.OpenRoots(tlsfiles.RootsConfig{
		File: filepath.Join(dir, "roots.pem"), Changed: func() { changes++ }, Tell: func(c tlsfiles.Change) { told = append(told, words(c)) }, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name, content string
		problem       string
		changes       int
	}{
		{"another root is added", one + two, "", 1},
		{"comments and a key", "# roots\n" + one + key + two, "", 1},
		{"the second is cut off", one + two[:len(two)/2], "cut off", 1},
		{"the second is no certificate", one + strings.Replace(two, "MII", "AAA", 1), "certificate 2", 1},
		{"a key alone", key, "no certificate", 1},
		{"gone", "", "no such file", 1},
		{"too large", strings.Repeat("x", 4<<20+1), "larger than", 1},
		{"as before", one + two, "", 1},
		{"the first is taken away", two, "", 2},
	}
	for _, step := range steps {
		write(t, dir, map[string]string{"roots.pem": step.content})
		before := roots.Pool()
		err := roots.Reload()
		if (err != nil) != (step.problem != "") || err != nil && !strings.Contains(err.Error(), step.problem) || roots.Problem() != err {
			t.Errorf("%s: got %v and %v, want %q", step.name, err, roots.Problem(), step.problem)
		}
		if step.problem != "" && roots.Pool() != before {
			t.Errorf("%s: the roots have changed", step.name)
		}
		if changes != step.changes {
			t.Errorf("%s: %d changes, want %d", step.name, changes, step.changes)
		}
		if again := roots.Reload(); (again == nil) != (err == nil) {
			t.Errorf("%s: a second look says %v", step.name, again)
		}
	}
	want := []string{"+ (serial 2) -", "cut off", "certificate 2", "no certificate", "no such file", "larger than", "+ -", "+ - (serial 1)"}
	if !slices.EqualFunc(told, want, strings.Contains) {
		t.Errorf("told were %q, want %q", told, want)
	}
	if n := strings.Count(log.String(), "refused"); n != 5 {
		t.Errorf("five problems were told %d times:\n%s", n, log)
	}
}
