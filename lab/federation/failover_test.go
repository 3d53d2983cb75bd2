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
		if err == nil && (p.IsPrimary || !p.Secondary.IsSecondary || p.Problem.Reason == "" || len(p.Notices) == 0 || p.Notices[0].Title != "read-only: no majority, 2 of 5") {
			err = fmt.Errorf("%+v", p)
		}
		if err == nil {
			say("the page in dc2: " + p.Notices[0].Title + ". " + p.Notices[0].Text)
		}
		return err
	})
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
	if len(states) != 2 || states[0].Datacenter != "dc1" || states[1].Datacenter != "dc2" || states[1].Stale != want {
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
