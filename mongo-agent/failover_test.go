package main

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"sluice/internal/mongotest"
	"sluice/mongo-agent/role"
)

// startComplete starts a set of three and returns it with its primary once every
// member votes. On one loopback a name has one listener, so three members reach
// each other without relays here; the lab's own tests have relays.
func startComplete(t *testing.T) (*cluster, *running) {
	t.Helper()
	c := startCluster(t, clusterConfig{})
	c.awaitComplete(t)
	return c, c.await(t, c.agents...)
}

// successorOf waits until another member is served as the primary, and returns it
// and how long that took.
func (c *cluster) successorOf(t *testing.T, old *running) (*running, time.Duration) {
	t.Helper()
	started := time.Now()
	var next *running
	mongotest.Wait(t, 30*time.Second, "another member is primary", func(context.Context) error {
		for _, a := range c.others(old) {
			if s, _ := a.board.Snapshot(); s.State == role.Primary && s.Fence == "" {
				next = a
				return nil
			}
		}
		return fmt.Errorf("none")
	})
	return next, time.Since(started)
}

// wantHelped wants an election that the agent's own mongod has won because its
// agent asked for it.
func wantHelped(t *testing.T, a *running, took time.Duration) {
	t.Helper()
	tries := a.record.all()
	if !slices.ContainsFunc(tries, func(e attempt) bool { return e.Outcome == electionWon }) {
		t.Errorf("%s is primary after %v without help: %+v", a.Node, took, tries)
	}
	for _, e := range tries {
		t.Logf("%s: %s, decided %v, elected %v, %s", a.Node, e.Why, time.Duration(e.Decided), time.Duration(*e.Elected), e.Outcome)
	}
}

func TestAPrimaryThatDiesIsReplacedAtOnce(t *testing.T) {
	c, old := startComplete(t)
	for range 3 {
		c.member(old).Kill(t)
		next, took := c.successorOf(t, old)
		t.Logf("%s -> %s in %v", old.Node, next.Node, took)
		wantHelped(t, next, took)
		c.member(old).Start(t)
		c.await(t, c.agents...)
		old = next
	}
}

func TestAFrozenPrimaryIsReplacedAtOnceAndNeverServedAgain(t *testing.T) {
	c, old := startComplete(t)
	before, _ := old.board.Snapshot()
	c.member(old).Signal(t, syscall.SIGSTOP)
	next, took := c.successorOf(t, old)
	t.Logf("%s -> %s in %v", old.Node, next.Node, took)
	wantHelped(t, next, took)
	if _, err := c.reach(old, primaryService, primaryPort); err == nil {
		t.Error("the frozen primary's port is open")
	}
	c.member(old).Signal(t, syscall.SIGCONT)
	c.await(t, c.agents...)
	for _, e := range old.board.report().Transitions {
		if e.To == role.Primary && e.Detected.After(before.Since.Add(time.Millisecond)) && e.Accepted != nil {
			t.Errorf("it was served again: %+v", e)
		}
	}
}

func TestAnAgentThatEndsHandsOverFirst(t *testing.T) {
	c, old := startComplete(t)
	stopped := make(chan error, 1)
	go func() { stopped <- old.stop() }()
	next, took := c.successorOf(t, old)
	t.Logf("%s -> %s in %v", old.Node, next.Node, took)
	wantHelped(t, next, took)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if s, _ := old.board.Snapshot(); s.State == role.Primary {
		t.Errorf("the agent has ended, and %s was still primary", old.Node)
	}
}
