package proofs_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/intentions"
)

// The bars of a deny, at the 99th percentile. A machine under load is not the
// mesh's fault, so the proof fails only far above them and says so when it is
// above.
const (
	toggles   = 50
	newBar    = 100 * time.Millisecond
	openBar   = 250 * time.Millisecond
	tolerance = 10
	// probing is how many refusals each client collects before the edge is allowed
	// again: so many chances to slip through.
	probing = 15
)

// denied and allowed again, as a probe saw it.
type toggle struct {
	began, wrote, allowed time.Duration
}

// denyIsFastAndExact toggles web -> mongo-primary under traffic by clients that
// hold web's own leaf and do not look at intentions, so that what stops them is
// the destination; one client that does look shows the source's side.
func denyIsFastAndExact(p *proof) {
	primary, secondaries := p.members()
	guarded := target{Address: primary.Address + ":27018", Service: "mongo-primary"}
	beside := target{Address: secondaries[0].Address + ":27019", Service: "mongo-secondary"}
	fresh := []string{"new, crypto/tls", "new, mesh"}
	open := []string{"open, crypto/tls", "open, mesh", "open, mesh that knows the intentions"}
	bystanders := []string{"bystander, new", "bystander, open", "bystander, open and judged"}
	r := p.start("web-1", order{Service: "web", TokenFile: p.token("web", "web-1"), Streams: []stream{
		{Name: fresh[0], Client: "raw", Pause: 2 * time.Millisecond, target: guarded},
		{Name: fresh[1], Client: "mesh", Pause: 2 * time.Millisecond, target: guarded},
		{Name: open[0], Client: "raw", Open: true, Pause: 2 * time.Millisecond, target: guarded},
		{Name: open[1], Client: "mesh", Open: true, Pause: 2 * time.Millisecond, target: guarded},
		{Name: open[2], Client: "judged", Open: true, Pause: 2 * time.Millisecond, target: guarded},
		{Name: bystanders[0], Client: "mesh", Pause: 20 * time.Millisecond, target: beside},
		{Name: bystanders[1], Client: "raw", Open: true, Pause: 2 * time.Millisecond, target: beside},
		{Name: bystanders[2], Client: "judged", Open: true, Pause: 2 * time.Millisecond, target: beside},
	}})
	all := slices.Concat(fresh, open)
	neighbours := p.replication(primary.Name)
	r.awaitSince(0, all, served, opened, 1)
	r.awaitSince(0, bystanders, served, opened, 1)
	var done []toggle
	for range toggles {
		var t toggle
		t.began, t.wrote = p.set("web", "mongo-primary", intentions.Deny)
		r.awaitSince(t.began, fresh, denied, denied, probing)
		r.awaitEnd(t.began, open)
		t.allowed = monotonic()
		p.set("web", "mongo-primary", intentions.Allow)
		r.awaitSince(t.allowed, all, served, opened, 1)
		done = append(done, t)
	}
	events := r.stop()
	nothingSlipped(p.TB, events, done, fresh, open)
	untouched(p.TB, events, bystanders)
	kept := 0
	for id := range p.replication(primary.Name) {
		if neighbours[id] {
			kept++
		}
	}
	p.onlyCut(primary.Name, "web")
	p.Logf("connections of replication through the same process: %d of %d are still the same", kept, len(neighbours))
	if kept == 0 {
		p.Error("the denies have cut replication, which is another edge of the same process")
	}
	measure(p.TB, events, done, fresh, open)
}

// replication returns the live inbound connections of mongo-repl on a node.
func (p *proof) replication(node string) map[uint64]bool {
	p.Helper()
	live := map[uint64]bool{}
	for _, process := range p.node(node).Processes {
		if process.Mesh == nil {
			continue
		}
		for _, c := range process.Mesh.Connections {
			if c.Inbound && c.Destination.Service() == "mongo-repl" {
				live[c.ID] = true
			}
		}
	}
	return live
}

// onlyCut holds that the mongo-agent of a node has cut connections of one source
// alone, as its own log tells.
func (p *proof) onlyCut(node, source string) {
	p.Helper()
	content, err := os.ReadFile(filepath.Join(p.lab.State, "logs", node, "mongo-agent.log"))
	if err != nil {
		p.Fatal(err)
	}
	cuts := 0
	for line := range strings.Lines(string(content)) {
		var entry struct{ Msg, Source string }
		if json.Unmarshal([]byte(line), &entry) != nil || entry.Msg != "live connections cut" {
			continue
		}
		if cuts++; entry.Source != source {
			p.Errorf("%s has cut connections of %s: %s", node, entry.Source, line)
		}
	}
	if cuts < toggles {
		p.Errorf("the log of %s tells of %d cuts, want %d", node, cuts, toggles)
	}
}

// awaitSince waits until each stream has had one of two results so many times in
// tries that ended after a moment.
func (r *running) awaitSince(since time.Duration, streams []string, one, other string, times int) {
	r.Helper()
	r.await(20*time.Second, fmt.Sprintf("%s or %s, %d times", one, other, times), func(events []event) error {
		for _, name := range streams {
			n, latest := 0, event{}
			for _, e := range events {
				if e.Stream != name || e.Ended <= since {
					continue
				}
				if latest = e; e.Result == one || e.Result == other {
					n++
				}
			}
			if n < times {
				return fmt.Errorf("%s: %d times; the latest was %s %s", name, n, latest.Result, latest.Detail)
			}
		}
		return nil
	})
}

// awaitEnd waits until the open connection of each stream has ended.
func (r *running) awaitEnd(since time.Duration, streams []string) {
	r.Helper()
	r.await(20*time.Second, "the open connections are cut", func(events []event) error {
		for _, name := range streams {
			if !slices.ContainsFunc(events, func(e event) bool { return e.Stream == name && isEnd(e) && e.Ended > since }) {
				return fmt.Errorf("%s: is still open", name)
			}
		}
		return nil
	})
}

// isEnd reports whether the event is the end of an open connection.
func isEnd(e event) bool { return e.Last > 0 && e.Result != opened }

// nothingSlipped holds that from the first refusal on nobody is served until the
// allow.
func nothingSlipped(t testing.TB, events []event, done []toggle, fresh, open []string) {
	t.Helper()
	tries := 0
	for i, toggle := range done {
		first := firstRefusal(events, toggle, fresh)
		for _, e := range events {
			if !slices.Contains(fresh, e.Stream) && !slices.Contains(open, e.Stream) {
				continue
			}
			if e.Began <= first || e.Began >= toggle.allowed {
				continue
			}
			tries++
			if (e.Result == served || e.Result == opened) && e.Ended < toggle.allowed {
				t.Errorf("toggle %d: %s was served %s after the first refusal", i, e.Stream, e.Ended-first)
			}
		}
	}
	t.Logf("%d denies: %d tries after the first refusal, none may be served", len(done), tries)
	if tries < len(done)*probing {
		t.Errorf("only %d tries were made while the edge was denied: no evidence", tries)
	}
}

// firstRefusal is when the first new connection after the write was refused.
func firstRefusal(events []event, toggle toggle, fresh []string) time.Duration {
	first := toggle.allowed
	for _, e := range events {
		if slices.Contains(fresh, e.Stream) && e.Result == denied && e.Ended > toggle.began && e.Ended < first {
			first = e.Ended
		}
	}
	return first
}

// untouched holds that the bystanders had no error.
func untouched(t testing.TB, events []event, bystanders []string) {
	t.Helper()
	for _, name := range bystanders {
		exchanges, gap := 0, time.Duration(0)
		for _, e := range events {
			if e.Stream != name {
				continue
			}
			exchanges += max(e.Count, 1)
			gap = max(gap, e.Gap)
			if e.Result != served && e.Result != opened {
				t.Errorf("%s: %s: %s", name, e.Result, e.Detail)
			}
		}
		t.Logf("%s: %d exchanges, no error allowed; longest time between two answers %s", name, exchanges, gap.Round(time.Millisecond))
		if exchanges < toggles {
			t.Errorf("%s: only %d exchanges: no evidence", name, exchanges)
		}
	}
}

// measure prints the latencies and compares them, loosely, with their bars.
func measure(t testing.TB, events []event, done []toggle, fresh, open []string) {
	t.Helper()
	for _, name := range fresh {
		var refusal, fromBegin, lastServed sample
		for _, toggle := range done {
			first := firstRefusal(events, toggle, []string{name})
			refusal = append(refusal, first-toggle.wrote)
			fromBegin = append(fromBegin, first-toggle.began)
			last := toggle.began
			for _, e := range events {
				if e.Stream == name && e.Result == served && e.Began > toggle.began && e.Ended < toggle.allowed {
					last = max(last, e.Began)
				}
			}
			lastServed = append(lastServed, last-toggle.wrote)
		}
		t.Logf("%-38s deny written -> first refused NEW connection:   %s (bar: p99 %s)", name, refusal, newBar)
		t.Logf("%-38s deny sent    -> first refused NEW connection:   %s", name, fromBegin)
		t.Logf("%-38s deny written -> last one to start and be served: %s", name, lastServed)
		refusal.compare(t, name, newBar)
	}
	for _, name := range open {
		var end, fromBegin sample
		for _, toggle := range done {
			for _, e := range events {
				if e.Stream == name && isEnd(e) && e.Ended > toggle.began && e.Ended < toggle.allowed {
					end = append(end, e.Ended-toggle.wrote)
					fromBegin = append(fromBegin, e.Ended-toggle.began)
					break
				}
			}
		}
		if len(end) != len(done) {
			t.Errorf("%s: %d of %d open connections were cut", name, len(end), len(done))
			continue
		}
		t.Logf("%-38s deny written -> OPEN connection is dead:         %s (bar: p99 %s)", name, end, openBar)
		t.Logf("%-38s deny sent    -> OPEN connection is dead:         %s", name, fromBegin)
		end.compare(t, name, openBar)
	}
}

// sample is a set of latencies.
type sample []time.Duration

// quantile is the smallest latency that a share q of the sample does not exceed.
func (s sample) quantile(q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	index := int(q*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(index, 0), len(sorted)-1)]
}

// String returns p50, p99 and the maximum.
func (s sample) String() string {
	text := make([]string, 0, 3)
	for _, q := range []struct {
		name string
		at   float64
	}{{"p50", 0.5}, {"p99", 0.99}, {"max", 1}} {
		text = append(text, fmt.Sprintf("%s %6.1f ms", q.name, s.quantile(q.at).Seconds()*1000))
	}
	return strings.Join(text, "  ")
}

// compare fails far above the bar and says so when above.
func (s sample) compare(t testing.TB, name string, bar time.Duration) {
	t.Helper()
	switch p99 := s.quantile(0.99); {
	case p99 > tolerance*bar:
		t.Errorf("%s: p99 %s is more than %d times the bar of %s", name, p99, tolerance, bar)
	case p99 > bar:
		t.Logf("OVER THE BAR: %s: p99 %s, bar %s", name, p99, bar)
	}
}
