package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo/options"

	"sluice/internal/meshtest"
	"sluice/internal/mongotest"
	"sluice/mongo-agent/mongod"
	"sluice/mongo-agent/role"
)

func webUser() *driver.Credential {
	return &driver.Credential{AuthMechanism: "SCRAM-SHA-256", AuthSource: "blog", Username: "web", Password: "secret of the web"}
}

func createUser(name string) bson.D {
	return bson.D{{Key: "createUser", Value: name}, {Key: "pwd", Value: "x"}, {Key: "roles", Value: bson.A{"root"}}}
}

// checkOrder fails the test if a registration was not preceded by an open port
// of its role, or the other role's port was open at the same time, or a
// registration was taken back before the port was shut.
func checkOrder(t *testing.T, a *running) {
	t.Helper()
	for i, e := range a.catalog.entries() {
		if e.service == replService {
			continue
		}
		wantPrimary := e.do == "register" && e.service == primaryService
		wantSecondary := e.do == "register" && e.service == secondaryService
		if e.primary != wantPrimary || e.secondary != wantSecondary {
			t.Errorf("%s, entry %d: when %s of %s happened, primary port open: %v, secondary port open: %v", a.Node, i, e.do, e.service, e.primary, e.secondary)
		}
	}
}

// ended waits until a read on a connection fails and returns when.
func ended(t *testing.T, conn net.Conn) <-chan error {
	t.Helper()
	failed := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		failed <- err
	}()
	return failed
}

// wantEnded wants an end, and not an orderly one if reset is true.
func wantEnded(t *testing.T, what string, reset bool, failed <-chan error) {
	t.Helper()
	select {
	case err := <-failed:
		if err == nil || (reset && errors.Is(err, io.EOF)) {
			t.Errorf("%s: ended with %v, want a reset", what, err)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("%s: still open", what)
	}
}

func wantRefused(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%s: %v, want connection refused", what, err)
	}
}

func TestRolesFollowTheSet(t *testing.T) {
	c := startCluster(t, clusterConfig{})
	primary := c.await(t, c.agents...)

	t.Run("initiated by the first member's agent with every member in it", func(t *testing.T) {
		if primary.Node != "mongo-1" {
			t.Errorf("first primary is %s", primary.Node)
		}
	})
	t.Run("the application's user reads and writes through the mesh", func(t *testing.T) {
		client := c.client(primary, primaryService, primaryPort, webUser())
		mongotest.Wait(t, 10*time.Second, "web may write", func(ctx context.Context) error {
			_, err := client.Database("blog").Collection("entries").InsertOne(ctx, bson.D{{Key: "a", Value: 1}})
			return err
		})
	})
	t.Run("the localhost exception is of no use through a relay", func(t *testing.T) {
		for _, a := range c.agents {
			name, port := secondaryService, secondaryPort
			if a == primary {
				name, port = primaryService, primaryPort
			}
			err := mongod.Admin(t.Context(), c.client(a, name, port, nil), createUser("eve"), nil)
			if !mongod.HasCode(err, mongod.CodeUnauthorized) {
				t.Errorf("createUser without authentication through %s of %s: %v, want Unauthorized", name, a.Node, err)
			}
		}
	})
	t.Run("the wrong role's port refuses", func(t *testing.T) {
		_, err := c.reach(primary, secondaryService, secondaryPort)
		wantRefused(t, "secondary port of the primary", err)
		for _, a := range c.others(primary) {
			_, err := c.reach(a, primaryService, primaryPort)
			wantRefused(t, "primary port of a secondary", err)
		}
	})
	t.Run("who may not connect is refused", func(t *testing.T) {
		c.world.Policy.Set(meshtest.Deny("web", primaryService), meshtest.Allow("web", secondaryService), meshtest.Allow(replService, replService))
		defer c.world.Policy.Set(meshtest.Allow("web", primaryService), meshtest.Allow("web", secondaryService), meshtest.Allow(replService, replService))
		if _, err := c.reach(primary, primaryService, primaryPort); err == nil {
			t.Error("denied, and let in")
		}
	})
	t.Run("operations endpoint", func(t *testing.T) { testOps(t, primary) })
	c.awaitComplete(t)
	t.Run("step-down", func(t *testing.T) { primary = testStepDown(t, c, primary) })
	t.Run("kill and restart", func(t *testing.T) { testKill(t, c, primary) })
	for _, a := range c.agents {
		checkOrder(t, a)
	}
	t.Run("drain", func(t *testing.T) { testDrain(t, c) })
}

func testStepDown(t *testing.T, c *cluster, primary *running) *running {
	client := c.client(primary, primaryService, primaryPort, webUser())
	if _, err := client.Database("blog").Collection("entries").InsertOne(t.Context(), bson.D{{Key: "a", Value: 2}}); err != nil {
		t.Fatal(err)
	}
	open, err := c.reach(primary, primaryService, primaryPort)
	if err != nil {
		t.Fatal(err)
	}
	cut := ended(t, open)
	before, changed := primary.board.Snapshot()
	if err := c.system(primary.Mongod, bson.D{{Key: "replSetStepDown", Value: 6}, {Key: "secondaryCatchUpPeriodSecs", Value: 5}}); err != nil {
		t.Fatal(err)
	}
	<-changed
	wantEnded(t, "a connection to the old primary", true, cut)
	next := c.await(t, c.agents...)
	if next == primary {
		t.Fatal("the old primary is the new one")
	}
	_, err = c.reach(primary, primaryService, primaryPort)
	wantRefused(t, "the old primary's port", err)
	after, _ := next.board.Snapshot()
	if after.Term <= before.Term {
		t.Errorf("term %d after %d", after.Term, before.Term)
	}
	last := primary.board.report().Transitions
	found := false
	for _, tr := range last {
		if tr.From == role.Primary && tr.Cut != nil {
			found = true
			t.Logf("step-down: cut %v after it was detected, %d connections", time.Duration(*tr.Cut), tr.Closed)
			if tr.Closed == 0 {
				t.Error("no connection was cut")
			}
		}
	}
	if !found {
		t.Errorf("no cut among the transitions %+v", last)
	}
	return next
}

func testKill(t *testing.T, c *cluster, primary *running) {
	open, err := c.reach(primary, primaryService, primaryPort)
	if err != nil {
		t.Fatal(err)
	}
	cut := ended(t, open)
	killed := time.Now()
	c.member(primary).Kill(t)
	wantEnded(t, "a connection to the killed primary", false, cut)
	mongotest.Wait(t, 5*time.Second, "the agent knows", func(context.Context) error {
		if s, _ := primary.board.Snapshot(); s.State != role.Dead {
			return fmt.Errorf("it is %v", s.State)
		}
		return nil
	})
	s, _ := primary.board.Snapshot()
	t.Logf("kill: known after %v", s.Since.Sub(killed))
	next := c.await(t, c.others(primary)...)
	s, _ = next.board.Snapshot()
	t.Logf("kill: next primary after %v", s.Since.Sub(killed))
	mongotest.Wait(t, 5*time.Second, "the catalog has "+next.Node+" alone", func(ctx context.Context) error {
		instances, err := c.world.Catalog.Instances(ctx, primaryService)
		if err != nil || len(instances) != 1 || instances[0].Node != next.Node {
			return fmt.Errorf("it has %+v, %v", instances, err)
		}
		return nil
	})
	c.member(primary).Start(t)
	c.await(t, c.agents...)
}

func testDrain(t *testing.T, c *cluster) {
	primary := c.await(t, c.agents...)
	open, err := c.reach(primary, primaryService, primaryPort)
	if err != nil {
		t.Fatal(err)
	}
	cut := ended(t, open)
	started := time.Now()
	if err := primary.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("stop took %v", took)
	}
	wantEnded(t, "a connection through a stopped agent", true, cut)
	instances, _ := c.world.Catalog.Instances(t.Context(), primaryService)
	for _, instance := range instances {
		if instance.Node == primary.Node {
			t.Errorf("catalog still has %+v", instance)
		}
	}
}

func get(t *testing.T, a *running, path string) (int, string) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + a.ListenLoopback(opsPort) + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func testOps(t *testing.T, primary *running) {
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := get(t, primary, path); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	_, body := get(t, primary, "/role")
	var report struct {
		Role, Me, Primary, Set, Node string
		Term                         int64
		Since                        time.Time
		Transitions                  []map[string]any
	}
	if err := json.Unmarshal([]byte(body), &report); err != nil {
		t.Fatalf("/role: %v in %s", err, body)
	}
	if report.Role != "primary" || report.Me != primary.own().Address || report.Primary != report.Me || report.Term < 1 || report.Since.IsZero() {
		t.Errorf("/role: %s", body)
	}
	last := report.Transitions[len(report.Transitions)-1]
	if last["to"] != "primary" || last["accepted_ms"] == nil || last["registered_ms"] == nil {
		t.Errorf("/role: last transition %v", last)
	}
	_, body = get(t, primary, "/mesh")
	for _, want := range []string{"/svc/mongo-primary", "/svc/mongo-secondary", `"connections"`} {
		if !strings.Contains(body, want) {
			t.Errorf("/mesh lacks %s", want)
		}
	}
	_, body = get(t, primary, "/metrics")
	if want := `mongo_agent_role{role="primary"} 1`; !strings.Contains(body, want) {
		t.Errorf("/metrics lacks %s", want)
	}
}
