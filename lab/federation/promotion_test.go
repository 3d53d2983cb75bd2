//go:build dc2

package federation_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/internal/labtest"
	"sluice/lab"
	"sluice/ledger"
)

// ledgers are written from dc1, each with another write concern, at the same time.
type ledgers struct {
	majority, both string
	writing        sync.WaitGroup
}

// startLedgers writes for a while.
func (t *trial) startLedgers(name string, duration time.Duration) *ledgers {
	l := &ledgers{majority: t.lab.State + "/" + name + "-majority.ledger", both: t.lab.State + "/" + name + "-multidc.ledger"}
	for node, args := range map[string][]string{
		"web-1": {"--out", l.majority},
		"web-2": {"--out", l.both, "--write-concern", "multiDC"},
	} {
		l.writing.Go(func() {
			args := append([]string{"ledger", "run", "--node", node, "--rate", "50", "--duration", duration.String(), "--op-timeout", "3s", "--reads", "0"}, args...)
			if result := t.lab.Run(args...); result.Code != 0 {
				t.Errorf("%s", result)
			}
		})
	}
	return l
}

// some waits until each ledger has some writes.
func (l *ledgers) some(t *trial) {
	t.Helper()
	labtest.Eventually(t, 20*time.Second, "some writes of each are acknowledged", func() error {
		for _, path := range []string{l.majority, l.both} {
			content, err := os.ReadFile(path)
			if lines := bytes.Count(content, []byte("\n")); err != nil || lines < someLines {
				return fmt.Errorf("%s has %d lines, %v", path, lines, err)
			}
		}
		return nil
	})
}

// more waits until dc1 has acknowledged writes alone, for which its members may have to
// find another source first.
func (l *ledgers) more(t *trial) {
	t.Helper()
	before := acknowledged(t, l.majority)
	labtest.Eventually(t, 15*time.Second, "writes go on to be acknowledged", func() error {
		if now := acknowledged(t, l.majority); now < before+someLines/2 {
			return fmt.Errorf("%d more", now-before)
		}
		return nil
	})
}

// acknowledged is how many writes of a ledger are.
func acknowledged(t *trial, path string) (count int) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	book, err := ledger.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, write := range book.Writes {
		if write.Outcome == ledger.Acknowledged {
			count++
		}
	}
	return count
}

// someLines is how long a ledger is after about a second.
const someLines = 100

// withoutPrimary waits until dc2 has lost the primary.
func (t *trial) withoutPrimary() {
	t.Helper()
	labtest.Eventually(t, 20*time.Second, "dc2 has lost the primary", func() error {
		if t.datacenter("dc2").ReadOnly == "" {
			return errNotYet
		}
		return nil
	})
}

// lostAndPromoted loses dc1 while two ledgers are written there, promotes dc2, lets dc1
// come back, and compares what is missing with what was said to be.
func lostAndPromoted(t *trial) {
	l := t.startLedgers("cut", 15*time.Second)
	l.some(t)
	t.lab.Must("fault", "cut", "dc1")
	if refused := t.lab.Run("mongo", "promote", "dc1", "--yes"); refused.Code != 1 {
		t.Errorf("a datacenter with a primary: %s", refused)
	}
	t.withoutPrimary()
	if unasked := t.lab.Run("mongo", "promote", "dc2"); unasked.Code != 2 || !strings.Contains(unasked.Stderr, "would be lost") {
		t.Errorf("with nobody to ask: %s", unasked)
	}
	l.writing.Wait()
	dc1 := t.stake("dc1")
	if !dc1.Answers || dc1.Primary == "" || dc1.Lost == nil || dc1.Lost.Seconds < 1 {
		t.Errorf("of dc1, which is cut off and goes on, it is said: %+v", dc1)
	}
	t.promote()
	t.lab.Must("fault", "heal", "dc1")
	result := t.lab.Must("mongo", "readmit", "-o", "json")
	t.Log(strings.TrimSpace(result.Stderr))
	t.awaitPrimary(gateway1, 30*time.Second)
	t.compare(result.Stdout, l)
	t.lab.Must("mongo", "stepdown", "--to", "mongo-1")
}

// promote lets dc2 go on alone.
func (t *trial) promote() {
	t.Helper()
	began := time.Now()
	t.Log(strings.TrimSpace(t.lab.Must("mongo", "promote", "dc2", "--yes").Stderr))
	t.awaitPrimary(gateway2, 20*time.Second)
	t.Logf("writes are possible in dc2 %v after the command", time.Since(began).Round(time.Millisecond))
}

// stake is what is said of a datacenter before dc2 is promoted.
func (t *trial) stake(dc string) lab.MajoritySide {
	t.Helper()
	var planned lab.MongoResult
	if err := json.Unmarshal([]byte(t.lab.Must("mongo", "promote", "dc2", "--dry-run", "-o", "json").Stdout), &planned); err != nil {
		t.Fatal(err)
	}
	for _, side := range planned.AtStake.Sides {
		if side.Majority == nil {
			t.Fatalf("the majority time of %s is not known: %+v", side.Datacenter, side)
		}
		if side.Datacenter == dc {
			return side
		}
	}
	t.Fatalf("nothing is said of %s: %+v", dc, planned)
	return lab.MajoritySide{}
}

// deadAndPromoted kills every process of dc1 while it acknowledges what dc2 does not
// hear, promotes dc2, starts dc1 again, ends a readmit in the middle and lets a second
// one say what was lost.
func deadAndPromoted(t *trial) {
	l := t.startLedgers("dead", 20*time.Second)
	l.some(t)
	t.lab.Must("fault", "cut", "dc2")
	l.more(t)
	for _, n := range t.nodes("dc1") {
		t.lab.Must("fault", "kill", n)
	}
	t.lab.Must("fault", "heal", "dc2")
	t.withoutPrimary()
	dc1 := t.stake("dc1")
	if dc1.Answers || dc1.AgeSeconds < 1 || dc1.Primary != "" {
		t.Errorf("of dc1, which is dead, it is said: %+v", dc1)
	}
	t.promote()
	l.writing.Wait()
	began := time.Now()
	if healed := t.lab.Must("fault", "heal", "dc1"); !strings.Contains(healed.Stderr, "sluice mongo readmit starts it") {
		t.Errorf("it does not say that the mongods are left: %s", healed)
	}
	t.leftToReadmit()
	t.interruptReadmit()
	result := t.lab.Must("mongo", "readmit", "-o", "json")
	t.Logf("%s\nall voters again %v after dc1 was started", strings.TrimSpace(result.Stderr), time.Since(began).Round(100*time.Millisecond))
	if !strings.Contains(result.Stdout, `"from_before": true`) {
		t.Errorf("what the first readmit has found is not named as from before: %.2000s", result.Stdout)
	}
	t.awaitPrimary(gateway1, 30*time.Second)
	t.compare(result.Stdout, l)
	t.lab.Must("mongo", "stepdown", "--to", "mongo-1")
}

// nodes are the names of a datacenter's nodes.
func (t *trial) nodes(dc string) []string {
	t.Helper()
	var names []string
	for _, n := range t.lab.Status().Nodes {
		if n.Datacenter == dc {
			names = append(names, n.Name)
		}
	}
	return names
}

// leftToReadmit wants the mongods of dc1 to be down still, and waits until everything
// else runs: started by itself, dc1 would elect a primary that undoes the promotion.
func (t *trial) leftToReadmit() {
	t.Helper()
	labtest.Eventually(t, time.Minute, "the agents of dc1 answer, and its mongods are down", func() error {
		for _, n := range t.lab.Status().Nodes {
			for _, p := range n.Processes {
				down := n.Datacenter == "dc1" && p.Name == "mongod"
				if down != strings.HasPrefix(p.State, "ended") || !down && p.Name == "mongo-agent" && p.Mesh == nil {
					return fmt.Errorf("%s/%s is %s", n.Name, p.Name, p.State)
				}
			}
		}
		return nil
	})
}

// interruptReadmit ends a readmit once it has kept what a member has to undo.
func (t *trial) interruptReadmit() {
	t.Helper()
	var said lockedBuffer
	command := t.lab.Command(t.Context(), "mongo", "readmit")
	command.Stderr = &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	labtest.Eventually(t, 2*time.Minute, "a member's operations are kept", func() error {
		if text := said.String(); !strings.Contains(text, "operations that the set has not") && !strings.Contains(text, "has rolled back by itself") {
			return fmt.Errorf("it says %s", said.String())
		}
		return nil
	})
	_ = command.Process.Signal(os.Interrupt)
	if err := command.Wait(); err == nil {
		t.Errorf("it was over before it was interrupted: %s", said.String())
	}
}

// lockedBuffer is what a command writes while somebody reads it.
type lockedBuffer struct {
	mu      sync.Mutex
	content bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.String()
}

// compare checks that every acknowledged write that is lost was named, and that none is
// with the write concern of both datacenters.
func (t *trial) compare(readmitted string, l *ledgers) {
	t.Helper()
	var told struct {
		Undone []struct {
			ID    string   `json:"id"`
			Nodes []string `json:"nodes"`
		} `json:"undone"`
	}
	if err := json.Unmarshal([]byte(readmitted), &told); err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, u := range told.Undone {
		named[strings.Trim(u.ID, `"`)] = true
	}
	count, lost := t.lost(l.majority)
	t.Logf("w:majority: %d acknowledged writes are lost; %d operations were named by id", count, len(named))
	if count > len(named) {
		t.Errorf("%d acknowledged writes are lost, and only %d were named", count, len(named))
	}
	if count == 0 {
		t.Error("no acknowledged write is lost: the proof has not shown what it is about")
	}
	if i := slices.IndexFunc(lost, func(id string) bool { return !named[id] }); i >= 0 {
		t.Errorf("%s is lost, and nobody said so", lost[i])
	}
	if count, lost := t.lost(l.both); count > 0 {
		t.Errorf("w:multiDC: %d acknowledged writes are lost, the first %s", count, lost[0])
	}
}

// lost returns how many acknowledged writes of a ledger are gone, and the ids of the first
// of them.
func (t *trial) lost(path string) (count int, ids []string) {
	t.Helper()
	result := t.lab.Run("ledger", "check", path, "-o", "json")
	var report struct {
		Verdict      string `json:"verdict"`
		Acknowledged int    `json:"acknowledged"`
		Lost         struct {
			Count     int      `json:"count"`
			Documents []string `json:"documents"`
		} `json:"lost"`
	}
	if err := json.Unmarshal([]byte(result.Stdout), &report); err != nil {
		t.Fatalf("%v: %s", err, result)
	}
	if report.Acknowledged == 0 {
		t.Fatalf("%s: nothing was acknowledged, so nothing is shown", path)
	}
	return report.Lost.Count, report.Lost.Documents
}
