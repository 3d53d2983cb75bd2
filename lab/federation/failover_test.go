//go:build dc2

package federation_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"sluice/internal/labtest"
)

// rate is how many requests a second the gateway gets meanwhile.
const rate = 200

// inFlight is the most requests that a killed web may take with it: those that were
// under way, at this rate and some milliseconds each.
const inFlight = 10

// webs are the nodes of dc1 that run web.
func webs() []string { return []string{"web-1", "web-2"} }

// stoppedWebs ends every web of dc1 as an operator would, and starts them again.
func stoppedWebs(t *trial) { t.failover("term", 0) }

// killedWebs kills them.
func killedWebs(t *trial) { t.failover("kill", inFlight) }

func (t *trial) failover(fault string, allowed int) {
	load := startLoad(t, t.lab.URL(gateway1, "/web"), rate)
	labtest.Eventually(t, 10*time.Second, "dc1 answers", t.served("dc1"))
	down := load.now()
	for _, node := range webs() {
		t.lab.Must("fault", fault, node+"/web")
	}
	labtest.Eventually(t, 20*time.Second, "dc2 answers", t.served("dc2"))
	up := load.now()
	for _, node := range webs() {
		t.lab.Must("fault", "restart", node+"/web")
	}
	labtest.Eventually(t, 20*time.Second, "dc1 answers again", t.served("dc1"))
	answers := load.stop()
	away, ok := from(answers, down, "dc2")
	back, again := from(answers, up, "dc1")
	count, text := failures(answers, down)
	t.Logf("%d requests; dc2 answered first %v after the first %s, dc1 again %v after the first restart; %s", len(answers), away, fault, back, text)
	if !ok || !again || count > allowed {
		t.Errorf("over to dc2 %t, back to dc1 %t, %d failed, want at most %d", ok, again, count, allowed)
	}
}

// served holds when the gateway of dc1 says that a datacenter has answered.
func (t *trial) served(dc string) func() error {
	return func() error {
		response, err := http.Get(t.lab.URL(gateway1, "/web"))
		if err != nil {
			return err
		}
		_ = response.Body.Close()
		if got := response.Header.Get("X-Served-Dc"); got != dc {
			return fmt.Errorf("%s answers, status %d", got, response.StatusCode)
		}
		return nil
	}
}

// cutFor is how long the partition lasts.
const cutFor = time.Minute

// silentCut parts dc2 from dc1 for a minute.
func silentCut(t *trial) {
	before := t.processes("dc2")
	load := startLoad(t, t.lab.URL(gateway1, "/web"), 50)
	began := time.Now()
	say := func(what string) { t.Logf("%6.1f s  %s", time.Since(began).Seconds(), what) }
	t.lab.Must("fault", "cut", "dc2")
	say("cut")
	labtest.Eventually(t, 20*time.Second, "status says that dc2 has no majority", func() error {
		if got := t.datacenter("dc2").ReadOnly; got != "read-only: no majority, 2 of 5" {
			return fmt.Errorf("it says %q", got)
		}
		return nil
	})
	say("status: dc2 read-only, no majority, 2 of 5")
	labtest.Eventually(t, 30*time.Second, "web in dc2 reads locally and says why it cannot write", func() error {
		_, p, err := t.page(gateway2)
		if err == nil && (p.IsPrimary || !p.Secondary.IsSecondary || p.Problem.Reason == "") {
			err = fmt.Errorf("%+v", p)
		}
		return err
	})
	_, p, _ := t.page(gateway2)
	say("the page in dc2: " + p.Problem.Reason)
	labtest.Eventually(t, 40*time.Second, "the gateway of dc1 says that what it knows of dc2 is old", func() error { return t.stale(true) })
	say("gateway-1: dc2 is stale, its last known instances stay")
	<-time.After(time.Until(began.Add(cutFor)))
	t.lab.Must("fault", "heal", "dc2")
	say("healed")
	t.awaitPrimary(gateway2, 30*time.Second)
	say("web in dc2 reaches the primary")
	labtest.Eventually(t, 90*time.Second, "the gateway of dc1 knows dc2 again", func() error { return t.stale(false) })
	say("gateway-1 knows dc2 again")
	if count, text := failures(load.stop(), 0); count > 0 {
		t.Errorf("dc1 did not go on: %s", text)
	}
	for process, pid := range t.processes("dc2") {
		if before[process] != pid {
			t.Errorf("%s was restarted", process)
		}
	}
}

// stale holds when the gateway of dc1 takes what it knows of dc2 for old, or not.
func (t *trial) stale(want bool) error {
	response, err := http.Get(t.lab.URL(admin1, "/datacenters"))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var states []struct {
		Datacenter string `json:"datacenter"`
		Stale      bool   `json:"stale"`
	}
	if err := json.Unmarshal(body, &states); err != nil {
		return err
	}
	if len(states) != 1 || states[0].Datacenter != "dc2" || states[0].Stale != want {
		return fmt.Errorf("it says %s", body)
	}
	return nil
}

// oneWayCut lets dc1 hear dc2 and not the other way round.
func oneWayCut(t *trial) {
	t.lab.Must("fault", "cut", "dc2", "--from", "dc1")
	labtest.Eventually(t, 20*time.Second, "status says so", func() error {
		dc := t.datacenter("dc2")
		if dc.CutDirection != "in" || !strings.HasPrefix(dc.ReadOnly, "read-only: no majority") {
			return fmt.Errorf("%+v", dc)
		}
		return nil
	})
	if dc := t.datacenter("dc1"); dc.ReadOnly != "" {
		t.Errorf("dc1: %s", dc.ReadOnly)
	}
	t.lab.Must("fault", "heal", "dc2")
	t.awaitPrimary(gateway2, 30*time.Second)
}

// lostAndPromoted loses dc1 while two ledgers are written there, promotes dc2, lets dc1
// come back, and compares what is missing with what was said to be.
func lostAndPromoted(t *trial) {
	majority, both := t.lab.State+"/majority.ledger", t.lab.State+"/multidc.ledger"
	writing := make(chan struct{}, 2)
	for node, args := range map[string][]string{
		"web-1": {"--out", majority},
		"web-2": {"--out", both, "--write-concern", "multiDC", "--op-timeout", "3s"},
	} {
		go func() {
			args := append([]string{"ledger", "run", "--node", node, "--rate", "50", "--duration", "12s", "--reads", "0"}, args...)
			if result := t.lab.Run(args...); result.Code != 0 {
				t.Errorf("%s", result)
			}
			writing <- struct{}{}
		}()
	}
	<-time.After(4 * time.Second) // some writes of each before
	t.lab.Must("fault", "cut", "dc1")
	if refused := t.lab.Run("mongo", "promote", "dc1", "--yes"); refused.Code != 1 {
		t.Errorf("a datacenter with a primary: %s", refused)
	}
	labtest.Eventually(t, 20*time.Second, "dc2 has lost the primary", func() error {
		if t.datacenter("dc2").ReadOnly == "" {
			return errNotYet
		}
		return nil
	})
	if unasked := t.lab.Run("mongo", "promote", "dc2"); unasked.Code != 2 || !strings.Contains(unasked.Stderr, "would be lost") {
		t.Errorf("with nobody to ask: %s", unasked)
	}
	<-writing
	<-writing
	began := time.Now()
	t.Log(strings.TrimSpace(t.lab.Must("mongo", "promote", "dc2", "--yes").Stderr))
	t.awaitPrimary(gateway2, 20*time.Second)
	t.Logf("writes are possible in dc2 %v after the command", time.Since(began).Round(time.Millisecond))
	t.lab.Must("fault", "heal", "dc1")
	result := t.lab.Must("mongo", "readmit", "-o", "json")
	t.Log(strings.TrimSpace(result.Stderr))
	t.awaitPrimary(gateway1, 30*time.Second)
	t.compare(result.Stdout, majority, both)
	t.lab.Must("mongo", "stepdown", "--to", "mongo-1")
}

// compare checks that every acknowledged write that is lost was named, and that none is
// with the write concern of both datacenters.
func (t *trial) compare(readmitted, majority, both string) {
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
	lost := t.lost(majority)
	t.Logf("w:majority: %d acknowledged writes are lost; %d operations were named by id", len(lost), len(named))
	if len(lost) == 0 {
		t.Error("no acknowledged write is lost: the proof has not shown what it is about")
	}
	if i := slices.IndexFunc(lost, func(id string) bool { return !named[id] }); i >= 0 {
		t.Errorf("%s is lost, and nobody said so", lost[i])
	}
	if lost := t.lost(both); len(lost) > 0 {
		t.Errorf("w:multiDC: %d acknowledged writes are lost, the first %s", len(lost), lost[0])
	}
}

// lost returns the ids of the acknowledged writes of a ledger that are gone.
func (t *trial) lost(path string) []string {
	t.Helper()
	result := t.lab.Run("ledger", "check", path, "-o", "json")
	var report struct {
		Verdict      string `json:"verdict"`
		Acknowledged int    `json:"acknowledged"`
		Lost         struct {
			Documents []string `json:"documents"`
		} `json:"lost"`
	}
	if err := json.Unmarshal([]byte(result.Stdout), &report); err != nil {
		t.Fatalf("%v: %s", err, result)
	}
	if report.Acknowledged == 0 {
		t.Fatalf("%s: nothing was acknowledged, so nothing is shown", path)
	}
	return report.Lost.Documents
}

// newRoot rotates the root while both gateways are asked.
func newRoot(t *trial) {
	first, second := startLoad(t, t.lab.URL(gateway1, "/web"), 50), startLoad(t, t.lab.URL(gateway2, "/web"), 50)
	began, before := time.Now(), t.roots()
	result := t.lab.Must("certs", "rotate")
	t.Logf("%v: %s", time.Since(began).Round(time.Millisecond), strings.TrimSpace(result.Stdout+result.Stderr))
	for dc, load := range map[string]*load{"dc1": first, "dc2": second} {
		answers := load.stop()
		count, text := failures(answers, 0)
		t.Logf("%s: %d requests, %s", dc, len(answers), text)
		if count > 0 || len(answers) == 0 {
			t.Errorf("%s: %d requests, %s", dc, len(answers), text)
		}
	}
	after := t.roots()
	if len(before) != 1 || len(after) != 1 || before[0] == after[0] {
		t.Errorf("leaves hung on the roots %v and hang on %v; want one, and then another one", before, after)
	}
}

// roots are those that the leaves of every node hang on.
func (t *trial) roots() []string {
	t.Helper()
	var rows []struct {
		Issuers []struct {
			Key string `json:"key"`
		} `json:"issuers"`
	}
	if err := json.Unmarshal([]byte(t.lab.Must("certs", "show", "-o", "json").Stdout), &rows); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, row := range rows {
		if len(row.Issuers) == 0 {
			t.Fatal("a leaf hangs on nothing")
		}
		keys = append(keys, row.Issuers[len(row.Issuers)-1].Key)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
