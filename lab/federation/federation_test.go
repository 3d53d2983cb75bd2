//go:build dc2

package federation_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/internal/labtest"
	"sluice/lab"
)

// offset keeps this package's ports apart from those of a lab that a person runs.
const offset = 2400

// Ports of the host's doors before the offset.
const gateway1, gateway2, admin1 = 9999, 9989, 9998

func TestMain(m *testing.M) { labtest.Main(m) }

// TestTwoDatacenters runs one lab through its claims, in an order that a person could
// follow.
func TestTwoDatacenters(t *testing.T) {
	l := labtest.New(t, labtest.Variant{Engine: "netns"}, offset)
	l.Up()
	t.Run("an interrupted way up is undone", func(t *testing.T) { interrupted(&trial{t, l.For(t)}) })
	t.Run("the second joins a running first, in time", func(t *testing.T) { joins(&trial{t, l.For(t)}) })
	for _, claim := range []struct {
		name string
		hold func(*trial)
	}{
		{"intentions of dc1 hold in both", intentionsHold},
		{"each datacenter has its own configuration of web", webIsConfigured},
		{"each datacenter signs for itself, and the other believes it", leavesAreBelieved},
		{"web stopped in dc1: dc2 answers, and no request fails", stoppedWebs},
		{"web killed in dc1: dc2 answers, and only what was under way fails", killedWebs},
		{"a silent cut for a minute: each goes on by itself, and then together", silentCut},
		{"one way only: who hears nothing says so", oneWayCut},
		{"dc1 away: what works in dc2, and what does not", primaryAway},
		{"dc1 lost: dc2 is promoted, and what that cost is known by id", lostAndPromoted},
		{"dc1 dead: dc2 is promoted, and dc1 is taken back when it runs again", deadAndPromoted},
		{"a new root under load in both, and no request fails", newRoot},
		{"the second leaves, and the first goes on", leaves},
	} {
		t.Run(claim.name, func(t *testing.T) {
			tr := &trial{t, l.For(t)}
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("status:\n%s\n%s", tr.lab.Run("status").Stdout, tr.lab.Run("mongo", "status").Stdout)
				}
				tr.lab.Must("fault", "heal", "--all")
			})
			claim.hold(tr)
		})
	}
}

// trial is one claim on its way.
type trial struct {
	*testing.T
	lab *labtest.Lab
}

// page is what web answers to a program, as far as the proofs read it.
type page struct {
	Instance  string   `json:"instance"`
	Hosts     []string `json:"hosts"`
	Primary   string   `json:"primary"`
	IsPrimary bool     `json:"is_primary"`
	Secondary struct {
		IsSecondary bool `json:"is_secondary"`
	} `json:"secondary"`
	Problem struct {
		Reason string `json:"reason"`
	} `json:"problem"`
	Notices []struct {
		Title string `json:"title"`
		Text  string `json:"text"`
	} `json:"notices"`
}

// page asks a gateway for web's page.
func (t *trial) page(port int) (status int, p page, err error) {
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	request, err := http.NewRequest(http.MethodGet, t.lab.URL(port, "/web"), nil)
	if err != nil {
		return 0, p, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0, p, err
	}
	defer response.Body.Close()
	return response.StatusCode, p, json.NewDecoder(response.Body).Decode(&p)
}

// awaitPrimary waits until the page at a gateway is connected to a primary.
func (t *trial) awaitPrimary(port int, within time.Duration) {
	t.Helper()
	labtest.Eventually(t, within, "web reaches the primary", func() error {
		status, p, err := t.page(port)
		if err == nil && (status != http.StatusOK || !p.IsPrimary) {
			err = fmt.Errorf("status %d, primary %t: %s", status, p.IsPrimary, p.Problem.Reason)
		}
		return err
	})
}

// datacenter is one datacenter of the status.
func (t *trial) datacenter(name string) lab.DatacenterStatus {
	t.Helper()
	for _, dc := range t.lab.Status().Datacenters {
		if dc.Name == name {
			return dc
		}
	}
	t.Fatalf("%s does not run", name)
	return lab.DatacenterStatus{}
}

// processes are the process IDs of a datacenter, by node and name.
func (t *trial) processes(dc string) map[string]int {
	t.Helper()
	ids := map[string]int{}
	for _, n := range t.lab.Status().Nodes {
		for _, p := range n.Processes {
			if n.Datacenter == dc {
				ids[n.Name+"/"+p.Name] = p.PID
			}
		}
	}
	return ids
}

// federatedWithin is the bar for the second datacenter, from nothing to a first leaf.
const federatedWithin = 30 * time.Second

func joins(t *trial) {
	if _, err := http.Get(t.lab.URL(gateway2, "/web")); err == nil {
		t.Error("the port of dc2 answers before dc2 runs")
	}
	began := time.Now()
	started := t.lab.Must("up", "--dc2", "-o", "json")
	whole := time.Since(began)
	var up lab.Started
	if err := json.Unmarshal([]byte(started.Stdout), &up); err != nil {
		t.Fatal(err)
	}
	federated := 0.0
	for _, phase := range up.Summary.Phases {
		t.Logf("%-45s %5.1f s", phase.Name, phase.Seconds)
		federated += phase.Seconds
		if strings.Contains(phase.Name, "federated") {
			break
		}
	}
	t.Logf("dc2 signs certificates after %.1f s; all of it took %v", federated, whole.Round(time.Millisecond))
	if bar := federatedWithin.Seconds(); federated > bar {
		t.Errorf("federated after %.1f s, want %.0f", federated, bar)
	}
	for _, port := range []int{gateway1, gateway2} {
		t.awaitPrimary(port, 10*time.Second)
	}
	if status, p, err := t.page(gateway2); err != nil || status != http.StatusOK || len(p.Hosts) != 5 || p.Instance != "web-web-3" {
		t.Errorf("web in dc2: status %d, %+v, %v; want web-3 with five members", status, p, err)
	}
	if again := t.lab.Must("up", "--dc2"); !strings.Contains(again.Stderr, "already running") {
		t.Errorf("a second time: %s", again)
	}
}

// intentionsHold denies and allows in dc1 and looks at the deciders of both.
func intentionsHold(t *trial) {
	for _, verb := range []string{"deny", "allow"} {
		result := t.lab.Must("intentions", verb, "web", "mongo-primary")
		text := result.Stdout + result.Stderr
		t.Log(strings.TrimSpace(text))
		if !strings.Contains(text, "(dc1 ") || !strings.Contains(text, ", dc2 ") {
			t.Errorf("%s: it does not say how long each datacenter took: %s", verb, text)
		}
		for _, process := range []string{"mongo-1/mongo-agent", "mongo-5/mongo-agent", "web-1/web", "web-3/web"} {
			if !strings.Contains(text, process) {
				t.Errorf("%s: %s does not decide so: %s", verb, process, text)
			}
		}
		status, p, err := t.page(gateway2)
		if denied := strings.Contains(p.Problem.Reason, "denied"); err != nil || denied != (verb == "deny") || (status == http.StatusOK) == denied {
			t.Errorf("the page in dc2 after %s: status %d, %q, %v", verb, status, p.Problem.Reason, err)
		}
	}
}

// leavesAreBelieved reads the identities on both ends of connections between the two.
func leavesAreBelieved(t *trial) {
	across := map[string]bool{}
	for _, n := range t.lab.Status().Nodes {
		for _, process := range n.Processes {
			if process.Mesh == nil {
				continue
			}
			for _, id := range process.Mesh.Identities {
				if id.ID.Datacenter() != n.Datacenter {
					t.Errorf("%s/%s in %s has the identity %s", n.Name, process.Name, n.Datacenter, id.ID)
				}
			}
			for _, c := range process.Mesh.Connections {
				if c.Source.Datacenter() != c.Destination.Datacenter() {
					across[c.Source.Datacenter()+" "+c.Source.Service()+" -> "+c.Destination.Datacenter()+" "+c.Destination.Service()] = true
				}
			}
		}
	}
	for _, edge := range []string{"dc1 mongo-repl -> dc2 mongo-repl", "dc2 mongo-repl -> dc1 mongo-repl", "dc2 web -> dc1 mongo-primary"} {
		if !across[edge] {
			t.Errorf("no connection %s; there are %v", edge, across)
		}
	}
}

// leaves takes dc2 away under load at dc1.
func leaves(t *trial) {
	load := startLoad(t, t.lab.URL(gateway1, "/web"), 50)
	t.lab.Must("down", "--dc2")
	answers := load.stop()
	if count, text := failures(answers, 0); count > 0 {
		t.Errorf("while dc2 left: %s", text)
	}
	for _, dc := range t.lab.Status().Datacenters {
		if dc.Name == "dc2" {
			t.Error("dc2 still runs")
		}
	}
	if _, err := http.Get(t.lab.URL(gateway2, "/web")); err == nil {
		t.Error("the port of dc2 still answers")
	}
	_, p, err := t.page(gateway1)
	if err != nil || len(p.Hosts) != 3 {
		t.Errorf("the set has %v, %v; want three members", p.Hosts, err)
	}
	members := t.lab.Must("exec", "consul-1", "--", "consul", "members", "-wan").Stdout
	if strings.Contains(members, "dc2") {
		t.Errorf("Consul still looks for dc2:\n%s", members)
	}
}

var errNotYet = errors.New("not yet")

// interrupted ends `up --dc2` in the middle, and does it again.
func interrupted(t *trial) {
	command := t.lab.Command(t.Context(), "up", "--dc2")
	var said bytes.Buffer
	command.Stderr = &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	labtest.Eventually(t, 30*time.Second, "dc2 is on its way", func() error {
		for _, n := range t.lab.Status().Nodes {
			if n.Name == "mongo-4" && len(n.Processes) == 3 {
				return nil
			}
		}
		return errNotYet
	})
	_ = command.Process.Signal(os.Interrupt)
	_ = command.Wait()
	labtest.Eventually(t, 90*time.Second, "nothing of dc2 is left", func() error {
		for _, dc := range t.lab.Status().Datacenters {
			if dc.Name == "dc2" {
				return errNotYet
			}
		}
		return nil
	})
	labtest.Eventually(t, 30*time.Second, "the set is as it was", func() error {
		_, p, err := t.page(gateway1)
		if err == nil && len(p.Hosts) != 3 {
			err = fmt.Errorf("it has %v", p.Hosts)
		}
		return err
	})
}
