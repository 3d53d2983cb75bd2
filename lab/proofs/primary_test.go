package proofs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"sluice/internal/labtest"
	"sluice/lab"
)

// failover bounds how long the page may be without a database. How fast it really
// is, is for others to gate on.
const failover = time.Minute

// killedPrimary kills the mongod that takes writes.
func killedPrimary(p *proof) {
	before, _ := p.members()
	p.onlyByRole()
	p.lab.Must("fault", "kill", before.Name+"/mongod")
	began := monotonic()
	member := ""
	labtest.Eventually(p, failover, "the page works with another primary", func() error {
		status, body, err := p.lab.Page("application/json")
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("status %d: %s", status, excerpt(body))
		}
		var page struct {
			Me        string `json:"me"`
			IsPrimary bool   `json:"is_primary"`
		}
		if err := json.Unmarshal([]byte(body), &page); err != nil {
			return err
		}
		if !page.IsPrimary {
			return fmt.Errorf("%s is not primary", page.Me)
		}
		member = page.Me
		return nil
	})
	p.Logf("%s/mongod killed: the page works again after %s, with %s", before.Name, (monotonic() - began).Round(time.Millisecond), member)
	p.onlyByRole()
	p.lab.Must("fault", "restart", before.Name+"/mongod")
	labtest.Eventually(p, failover, before.Name+" follows", func() error {
		if role := roleOf(p.node(before.Name)); role != "secondary" && role != "primary" {
			return errors.New("it is " + role)
		}
		return nil
	})
	p.Logf("%s has a role again after %s", before.Name, (monotonic() - began).Round(time.Millisecond))
	p.members()
	p.onlyByRole()
	p.pageComesBack(10 * time.Second)
}

// onlyByRole holds that the service of a role is served by the members that have
// the role, and by nobody else, on the wire and in the catalog.
func (p *proof) onlyByRole() {
	p.Helper()
	var mongos []lab.NodeStatus
	for _, n := range p.lab.Status().Nodes {
		for _, process := range n.Processes {
			if process.Name == "mongo-agent" {
				mongos = append(mongos, n)
			}
		}
	}
	var attempts []attempt
	want := map[string]string{}
	for _, n := range mongos {
		for role, port := range map[string]string{"primary": ":27018", "secondary": ":27019"} {
			name := n.Name + " (" + roleOf(n) + ") as mongo-" + role
			attempts = append(attempts, attempt{Name: name, Certificate: "own", target: target{n.Address + port, "mongo-" + role}})
			want[name] = refused
			if roleOf(n) == role {
				want[name] = served
				p.awaitInstance("mongo-"+role, n.Name, recovery)
			}
		}
	}
	for _, e := range p.ask("web-1", order{Service: "web", TokenFile: p.token("web", "web-1"), Attempts: attempts}) {
		if e.Result != want[e.Stream] {
			p.Errorf("%s: %s %s, want %s", e.Stream, e.Result, e.Detail, want[e.Stream])
		}
	}
}
