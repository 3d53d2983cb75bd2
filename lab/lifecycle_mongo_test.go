package lab_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/lab"
	"sluice/lab/clock"
)

// mongo is what `mongo status` says; it ends with 1 while there is no primary.
func (l *life) mongo(t *testing.T) lab.MongoStatus {
	t.Helper()
	result := l.Run("mongo", "status", "-o", "json")
	var status lab.MongoStatus
	if err := json.Unmarshal([]byte(result.Stdout), &status); err != nil {
		t.Fatalf("mongo status: %v: %s", err, result)
	}
	if (result.Code == 0) != (status.Primary != "" && status.Alarm == "") {
		t.Errorf("mongo status ends with %d, and says primary %q, alarm %q", result.Code, status.Primary, status.Alarm)
	}
	return status
}

// whole waits for a primary and two secondaries, and returns the primary and the others.
func (l *life) whole(t *testing.T) (string, []string) {
	t.Helper()
	var primary string
	var others []string
	l.await(t, "one primary and two secondaries", func() bool {
		status := l.mongo(t)
		primary, others = status.Primary, nil
		for _, m := range status.Members {
			if m.Role == "secondary" {
				others = append(others, m.Node)
			}
		}
		return primary != "" && len(others) == 2
	})
	return primary, others
}

func stepDownMoves(t *testing.T, l *life) {
	before, others := l.whole(t)
	status := l.mongo(t)
	if len(status.Members) != 3 || status.Profile != lab.ProfileFast || status.Term < 1 || len(status.Webs) == 0 {
		t.Errorf("mongo status: %+v", status)
	}
	text := l.must(t, "mongo", "status").Stdout
	for _, want := range []string{before, "primary", "secondary", "HELD"} {
		if !strings.Contains(text, want) {
			t.Errorf("mongo status does not say %q:\n%s", want, text)
		}
	}
	l.wantExit(t, 1, []string{"primary already"}, "mongo", "stepdown", "--to", before)
	l.wantExit(t, 2, []string{`no member "web-1"`}, "mongo", "stepdown", "--to", "web-1")
	l.must(t, "mongo", "stepdown", "--dry-run")
	if now, _ := l.whole(t); now != before {
		t.Errorf("a dry run moved the primary from %s to %s", before, now)
	}
	l.must(t, "mongo", "stepdown", "--to", others[0])
	if now, _ := l.whole(t); now != others[0] {
		t.Errorf("the primary is %s, want %s", now, others[0])
	}
	if after := l.mongo(t); after.Term <= status.Term || after.Election == nil {
		t.Errorf("after a step-down: term %d, before %d; last election %+v", after.Term, status.Term, after.Election)
	}
	l.wantExit(t, 1, []string{"refused"}, "mongo", "freeze", others[0], "--for", "1s")
	l.must(t, "mongo", "freeze", others[1], "--for", "0s")
}

func resyncCopies(t *testing.T, l *life) {
	primary, others := l.whole(t)
	l.wantExit(t, 1, []string{"it is the primary"}, "mongo", "resync", primary, "--yes")
	l.wantExit(t, 2, []string{"say --yes"}, "mongo", "resync", others[0])
	mark := filepath.Join(l.State, "nodes", others[0], "mongod", "mark-of-the-test")
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l.must(t, "mongo", "resync", others[0], "--dry-run")
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("a dry run deleted the data: %v", err)
	}
	l.must(t, "mongo", "resync", others[0], "--yes")
	if left := glob(t, mark, filepath.Join(l.State, "nodes", others[0], "mongod.*")); len(left) > 0 {
		t.Errorf("left of the old data: %q", left)
	}
	l.whole(t)
}

func rollingRestarts(t *testing.T, l *life) {
	primary, _ := l.whole(t)
	restarts := func(node, process string) int { return l.process(node, process).Restarts }
	before := restarts(primary, "mongod")
	said := l.must(t, "mongo", "rolling-restart").Stderr
	for _, node := range []string{"mongo-1", "mongo-2", "mongo-3"} {
		if !strings.Contains(said, node+"/mongod restarted") || !strings.Contains(said, node+"/mongo-agent restarted") {
			t.Errorf("it does not say that %s was restarted:\n%s", node, said)
		}
	}
	if got := restarts(primary, "mongod"); got != before+1 {
		t.Errorf("%s/mongod restarted %d times, want %d", primary, got, before+1)
	}
	if handed := strings.Index(said, primary+" handed over"); handed < 0 || handed < strings.Index(said, "/mongo-agent restarted") {
		t.Errorf("the primary did not hand over after the others:\n%s", said)
	}
	l.whole(t)
}

// mongodClock returns how far the newest line of a mongod's log is from now.
func (l *life) mongodClock(t *testing.T, node string) time.Duration {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(l.must(t, "logs", node+"/mongod").Stdout), "\n")
	var line struct {
		T struct {
			Date time.Time `json:"$date"`
		} `json:"t"`
	}
	newest := lines[len(lines)-1]
	if err := json.Unmarshal([]byte(newest[strings.Index(newest, `{"t"`):]), &line); err != nil {
		t.Fatalf("the log of %s/mongod: %v: %s", node, err, newest)
	}
	return time.Until(line.T.Date).Round(10 * time.Minute)
}

// clockIsOff is a member whose clock is an hour ahead, which becomes primary all
// the same, and is set right.
func clockIsOff(t *testing.T, l *life) {
	if err := clock.Able(); err != nil && os.Getenv("SLUICE_REQUIRE") == "" {
		t.Skip(err)
	}
	_, others := l.whole(t)
	l.must(t, "fault", "clock", others[0], "--ahead", "1h")
	l.whole(t)
	if off := l.mongodClock(t, others[0]); off != time.Hour {
		t.Errorf("the clock of %s is off by %v, want 1h", others[0], off)
	}
	if status := l.must(t, "status").Stdout; !strings.Contains(status, "clock 1h0m0s ahead of "+others[0]+"/mongod") {
		t.Errorf("status does not show the fault:\n%s", status)
	}
	l.must(t, "mongo", "stepdown", "--to", others[0])
	if now, _ := l.whole(t); now != others[0] {
		t.Errorf("the primary is %s, want %s", now, others[0])
	}
	l.must(t, "fault", "heal", "--all")
	l.whole(t)
	if off := l.mongodClock(t, others[0]); off != 0 {
		t.Errorf("after heal the clock of %s is off by %v", others[0], off)
	}
}
