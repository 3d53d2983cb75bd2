package lab_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/lab"
)

// faults are what status lists, without their times.
func (l *life) faults() []string {
	var texts []string
	for _, fault := range l.Status().Faults {
		texts = append(texts, fault.String())
	}
	return texts
}

func wantFaults(t *testing.T, l *life, want ...string) {
	t.Helper()
	if got := l.faults(); !slices.Equal(got, want) {
		t.Errorf("status lists the faults %q, want %q", got, want)
	}
}

func termStaysDown(t *testing.T, l *life) {
	planned := l.must(t, "fault", "term", "web-1/web", "--dry-run").Stderr
	if !strings.Contains(planned, "dry run: told web-1/web to end") {
		t.Errorf("a dry run says %q", planned)
	}
	wantFaults(t, l)
	l.must(t, "fault", "term", "web-1/web")
	l.await(t, "web-1/web has ended by itself", func() bool {
		return strings.HasPrefix(l.process("web-1", "web").State, "ended: exit code 0")
	})
	wantFaults(t, l, "term of web-1/web")
	l.wantExit(t, 2, []string{"not running", "fault restart web-1/web"}, "fault", "term", "web-1/web")
	l.must(t, "fault", "heal", "web-1")
	if p := l.process("web-1", "web"); p.State != "running" {
		t.Errorf("after heal: %+v", p)
	}
	wantFaults(t, l)
	wantPages(t, l, time.Minute)
}

func oneWayCut(t *testing.T, l *life) {
	if l.Engine != "netns" {
		l.wantExit(t, 2, []string{"cut web-2", "--engine netns"}, "fault", "cut", "web-2", "--direction", "in")
		wantFaults(t, l)
		return
	}
	l.must(t, "fault", "cut", "web-2", "--direction", "in")
	wantFaults(t, l, "cut in of web-2")
	i := slices.IndexFunc(l.Status().Nodes, func(n lab.NodeStatus) bool { return n.Name == "web-2" })
	if node := l.Status().Nodes[i]; !node.Cut || node.CutDirection != "in" {
		t.Errorf("after a cut: %+v", node)
	}
	if text := l.must(t, "status").Stdout; !strings.Contains(text, "(cut in)") || !strings.Contains(text, "FAULT: cut in of web-2") {
		t.Errorf("status does not show the cut:\n%s", text)
	}
	l.must(t, "fault", "cut", "web-2", "--direction", "out")
	wantFaults(t, l, "cut both of web-2")
	l.must(t, "fault", "heal", "--all")
	wantFaults(t, l)
	wantPages(t, l, time.Minute)
}

func profileIsKept(t *testing.T, l *life) {
	if got := l.Status().Profile; got != lab.ProfileFast {
		t.Errorf("a new lab has profile %q", got)
	}
	if said := l.up(t, "--profile", "stock").Stderr; !strings.Contains(said, "--profile changed nothing") {
		t.Errorf("up with another profile on a running lab says: %s", said)
	}
	l.must(t, "down")
	l.wantExit(t, 2, []string{"made with profile fast", "sluice down --purge"}, "up", "--engine", l.Engine, "--profile", "stock")
	l.up(t, "--profile", "fast")
}

// await looks at a condition until it holds.
func (l *life) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("never came true: %s", what)
		case <-tick.C:
		}
	}
}
