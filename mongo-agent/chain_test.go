package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sluice/internal/mongotest"
	"sluice/mongo-agent/heartbeat"
	"sluice/mongo-agent/role"
)

func TestBeforeAHandOverTheOthersFollowTheSuccessor(t *testing.T) {
	c, primary := startComplete(t)
	var heir, third *running
	mongotest.Wait(t, 20*time.Second, "somebody replicates from the primary, and the primary knows", func(ctx context.Context) error {
		primary.nudge(ctx)
		others := c.others(primary)
		for i, a := range others {
			view, _ := primary.circle.View()
			if p, _ := view.Peer(a.Node); p.Status.Source == primary.self.load().Member {
				heir, third = a, others[1-i]
				return nil
			}
		}
		return fmt.Errorf("nobody")
	})
	started := time.Now()
	primary.formChain(t.Context(), heir.Node)
	t.Logf("chained within %v", time.Since(started))
	// A member that is not behind its new source takes it with the next write, of
	// which this set has none.
	mongotest.Wait(t, 20*time.Second, third.Node+" replicates from the heir", func(ctx context.Context) error {
		primary.nudge(ctx)
		if status, err := third.replicating(ctx); err != nil || status.Source != primary.addressOf(heir.Node) {
			return fmt.Errorf("from %q, %v", status.Source, err)
		}
		return nil
	})
	primary.self.heir("")
	mongotest.Wait(t, 20*time.Second, "without a hand-over, it replicates from the primary again", func(ctx context.Context) error {
		primary.nudge(ctx)
		if status, err := third.replicating(ctx); err != nil || status.Source != primary.self.load().Member {
			return fmt.Errorf("from %q, %v", status.Source, err)
		}
		return nil
	})
	if to, err := primary.handOver(t.Context(), heir.Node); err != nil || to != heir.Node {
		t.Errorf("handed over to %q: %v", to, err)
	}
	if heir := primary.self.load().Heir; heir != "" {
		t.Errorf("it still names %s its heir", heir)
	}
}

func TestAChainIsCompleteWhenEveryOtherHealthySecondaryIsInIt(t *testing.T) {
	peer := func(node, source string, change ...func(*heartbeat.Peer)) heartbeat.Peer {
		p := heartbeat.Peer{Node: node, Known: true, Status: heartbeat.Status{Node: node, Role: role.Secondary, Source: source}}
		for _, f := range change {
			f(&p)
		}
		return p
	}
	lost := func(p *heartbeat.Peer) { p.Lost = true }
	frozen := func(p *heartbeat.Peer) { p.Status.Frozen = true }
	for name, c := range map[string]struct {
		peers []heartbeat.Peer
		want  bool
	}{
		"in it":                      {[]heartbeat.Peer{peer("b", "A"), peer("c", "B")}, true},
		"one follows the primary":    {[]heartbeat.Peer{peer("b", "A"), peer("c", "A")}, false},
		"one of two is in it":        {[]heartbeat.Peer{peer("b", "A"), peer("c", "B"), peer("d", "")}, false},
		"who is lost does not count": {[]heartbeat.Peer{peer("b", "A"), peer("c", "A", lost)}, true},
		"nor who is frozen":          {[]heartbeat.Peer{peer("b", "A"), peer("c", "A", frozen)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := chained(heartbeat.View{Peers: c.peers}, "b", "B"); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestOnlyAPrimaryThatIsHeardNamesAnHeir(t *testing.T) {
	p := heartbeat.Peer{Node: "a", Known: true, Status: heartbeat.Status{Role: role.Primary, Heir: "b"}}
	lost, former := p, p
	lost.Lost = true
	former.Status.Role = role.Secondary
	for name, c := range map[string]struct {
		peer heartbeat.Peer
		want string
	}{"heard": {p, "b"}, "lost": {lost, ""}, "primary no more": {former, ""}} {
		if got := heirOf(heartbeat.View{Peers: []heartbeat.Peer{c.peer}}); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
