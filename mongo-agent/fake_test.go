package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"sluice/internal/fakemongod"
	"sluice/internal/meshtest"
	"sluice/internal/mongotest"
	"sluice/mongo-agent/mongod"
	"sluice/mongo-agent/role"
)

// troupe is a replica set of fakes, with an agent beside each: what the set does
// is up to the test.
type troupe struct {
	*cluster
	fakes []*fakemongod.Server
}

const troupeKey = "the key of the troupe"

// startTroupe starts three fakes and their agents; nobody is primary yet.
func startTroupe(t *testing.T, adjust func(i int, cfg *fakemongod.Config, o *options)) *troupe {
	t.Helper()
	c := &cluster{t: t, world: meshtest.New(t), set: &mongotest.Set{Name: "consuldemo"}, key: mongod.NewSecret(troupeKey), store: &store{}}
	c.world.Policy.Set(meshtest.Allow("web", primaryService), meshtest.Allow("web", secondaryService), meshtest.Allow(replService, replService))
	tr := &troupe{cluster: c}
	var hosts []string
	var members []member
	for i := range 3 {
		hosts = append(hosts, mongotest.FreeAddress(t, "127.0.0.1"))
		members = append(members, member{"mongo-" + strconv.Itoa(i+1), hosts[i], "dc1"})
	}
	address := subnet()
	for i, m := range members {
		cfg := fakemongod.Config{Address: m.Address, Key: troupeKey, Hosts: hosts}
		o := optionsFor(m.Node, address(i+1), c.set, members)
		o.Mongod, o.Flat, o.AppUser = m.Address, true, ""
		o.profile.Assist, o.profile.Steer = false, false
		if adjust != nil {
			adjust(i, &cfg, &o)
		}
		tr.fakes = append(tr.fakes, fakemongod.Start(t, cfg))
		c.agents = append(c.agents, c.start(o))
	}
	return tr
}

// elect makes one fake the primary at a term; those that run and are not frozen
// hear of it, as with heartbeats of mongod's own.
func (tr *troupe) elect(winner int, term int64, deaf ...int) {
	for i, f := range tr.fakes {
		switch {
		case i == winner:
			f.Become(fakemongod.Primary, term)
		case !has(deaf, i):
			f.Change(func(m *fakemongod.Member) {
				m.Role, m.Term, m.Primary, m.OpTime.Term = fakemongod.Secondary, term, tr.fakes[winner].Address(), term
				m.OpTime.Timestamp.T = 1
			})
		}
	}
}

// vote lets one member win each term, as Raft would: the fakes know nothing of
// each other.
func (tr *troupe) vote() {
	var mu sync.Mutex
	taken := map[int64]bool{}
	for _, f := range tr.fakes {
		f.Handle("replSetStepUp", func(context.Context, fakemongod.Request) (bson.D, error) {
			mu.Lock()
			defer mu.Unlock()
			term := f.Member().Term + 1
			if taken[term] {
				return nil, &fakemongod.Error{Code: fakemongod.CommandFailed, Name: "CommandFailed", Message: "Election failed."}
			}
			taken[term] = true
			return nil, fakemongod.ErrDefault
		})
	}
}

func has(list []int, i int) bool {
	for _, x := range list {
		if x == i {
			return true
		}
	}
	return false
}

// awaitServed waits until one agent serves the primary at a term and no other
// does, and returns how long that took.
func (tr *troupe) awaitServed(t *testing.T, winner int, term int64) time.Duration {
	t.Helper()
	started := time.Now()
	mongotest.Wait(t, 10*time.Second, fmt.Sprintf("%s is served as the primary of term %d", tr.agents[winner].Node, term), func(ctx context.Context) error {
		instances, err := tr.world.Catalog.Instances(ctx, primaryService)
		if err != nil || len(instances) != 1 || instances[0].Node != tr.agents[winner].Node || instances[0].Meta["term"] != strconv.FormatInt(term, 10) {
			s, _ := tr.agents[winner].board.Snapshot()
			return fmt.Errorf("the catalog has %+v (%v), it is %+v", instances, err, s)
		}
		conn, err := tr.reach(tr.agents[winner], primaryService, primaryPort)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return time.Since(started)
}

// asked waits until a fake was asked for its role some times more.
func (tr *troupe) asked(t *testing.T, i, times int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	before := tr.fakes[i].Stats().Commands["hello"]
	if err := tr.fakes[i].Await(ctx, func(s fakemongod.Stats) bool { return s.Commands["hello"] >= before+times }); err != nil {
		t.Fatal(err)
	}
}

// wantTerms wants an agent to have registered the primary at these terms, and at
// no other, in this order.
func (tr *troupe) wantTerms(t *testing.T, i int, want ...int64) {
	t.Helper()
	var got []int64
	for _, e := range tr.agents[i].catalog.entries() {
		if e.do == "register" && e.service == primaryService {
			term, _ := strconv.ParseInt(e.term, 10, 64)
			got = append(got, term)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s was registered as the primary of the terms %v, want %v", tr.agents[i].Node, got, want)
	}
}

func TestAgentsFollowEveryElectionOfTheirSet(t *testing.T) {
	tr := startTroupe(t, nil)
	won := make([][]int64, 3)
	var slowest time.Duration
	for term := int64(1); term <= 12; term++ {
		winner := int(term*term) % 3
		if term%4 == 0 {
			winner = int(term) % 3
		}
		tr.elect(winner, term)
		took := tr.awaitServed(t, winner, term)
		if won[winner] = append(won[winner], term); term > 1 {
			slowest = max(slowest, took)
		}
	}
	t.Logf("from the election to a new connection: %v at most in %d elections", slowest, 11)
	for i, a := range tr.agents {
		tr.wantTerms(t, i, won[i]...)
		checkOrder(t, a)
	}
}

func TestAFrozenPrimaryIsCutByWhatOthersKnowAndNotServedWhenItThaws(t *testing.T) {
	tr := startTroupe(t, nil)
	tr.elect(0, 4)
	tr.awaitServed(t, 0, 4)
	open, err := tr.reach(tr.agents[0], primaryService, primaryPort)
	if err != nil {
		t.Fatal(err)
	}
	cut := ended(t, open)

	frozen := time.Now()
	tr.fakes[0].Freeze()
	tr.elect(1, 5, 0)
	wantEnded(t, "a connection to the frozen primary", true, cut)
	t.Logf("cut %v after another was elected", time.Since(frozen))
	tr.awaitServed(t, 1, 5)

	// It still believes in itself, for as long as it is not told.
	tr.fakes[0].Thaw()
	tr.asked(t, 0, 5)
	_, err = tr.reach(tr.agents[0], primaryService, primaryPort)
	wantRefused(t, "the thawed primary of a term that is over", err)
	tr.fakes[0].Change(func(m *fakemongod.Member) {
		m.Role, m.Term, m.Primary, m.OpTime.Term = fakemongod.Secondary, 5, tr.fakes[1].Address(), 5
	})
	mongotest.Wait(t, 5*time.Second, "it is served as a secondary", func(context.Context) error {
		conn, err := tr.reach(tr.agents[0], secondaryService, secondaryPort)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	tr.wantTerms(t, 0, 4)
	tr.wantTerms(t, 1, 5)
}

func TestAPrimaryOfATermThatIsOverIsNeverServed(t *testing.T) {
	tr := startTroupe(t, nil)
	tr.elect(0, 7)
	tr.awaitServed(t, 0, 7)
	for _, term := range []int64{3, 6} {
		tr.fakes[2].Become(fakemongod.Primary, term)
		tr.asked(t, 2, 5)
		s, _ := tr.agents[2].board.Snapshot()
		if s.Fence == "" {
			t.Errorf("it claims term %d, the others know of 7, and there is no fence: %+v", term, s)
		}
		_, err := tr.reach(tr.agents[2], primaryService, primaryPort)
		wantRefused(t, fmt.Sprintf("a primary of term %d", term), err)
		tr.awaitServed(t, 0, 7) // and the true one is not disturbed
	}
	tr.wantTerms(t, 2)
	tr.elect(2, 8)
	tr.awaitServed(t, 2, 8)
	tr.wantTerms(t, 0, 7)
}

// SERVER-76581: the member says so with the topologyVersion that it had before.
func TestARoleChangeWithoutANewTopologyVersionIsActedOn(t *testing.T) {
	tr := startTroupe(t, nil)
	tr.elect(0, 1)
	tr.awaitServed(t, 0, 1)
	open, err := tr.reach(tr.agents[0], primaryService, primaryPort)
	if err != nil {
		t.Fatal(err)
	}
	cut := ended(t, open)
	changed := time.Now()
	tr.fakes[0].ChangeUnannounced(func(m *fakemongod.Member) { m.Role, m.Primary = fakemongod.Secondary, "" })
	wantEnded(t, "a connection to the former primary", true, cut)
	t.Logf("cut after %v", time.Since(changed))
	_, err = tr.reach(tr.agents[0], primaryService, primaryPort)
	wantRefused(t, "the former primary", err)
}

func TestAnElectionIsHelpedWhenThePrimaryEnds(t *testing.T) {
	tr := startTroupe(t, func(_ int, _ *fakemongod.Config, o *options) { o.profile.Assist = true })
	tr.vote()
	tr.elect(0, 2)
	tr.await(t, tr.agents...)
	tr.awaitServed(t, 0, 2)
	ended := time.Now()
	tr.fakes[0].Kill()
	var winner int
	mongotest.Wait(t, 5*time.Second, "one of the others stood for election", func(context.Context) error {
		for i := 1; i < 3; i++ {
			if m := tr.fakes[i].Member(); m.Role == fakemongod.Primary {
				winner = i
				return nil
			}
		}
		return fmt.Errorf("none did")
	})
	tr.awaitServed(t, winner, 3)
	t.Logf("served again %v after the end of the primary", time.Since(ended))
	if stood := tr.fakes[3-winner].Stats().Commands["replSetStepUp"]; stood != 0 {
		t.Errorf("%s stood for election too, %d times", tr.agents[3-winner].Node, stood)
	}
	tr.wantTerms(t, winner, 3)
}

func TestAMongodThatLetsStrangersInIsNotServed(t *testing.T) {
	tr := startTroupe(t, func(i int, cfg *fakemongod.Config, _ *options) { cfg.LocalhostException = i == 0 })
	tr.elect(0, 1)
	tr.asked(t, 0, 5)
	if s, _ := tr.agents[0].board.Snapshot(); s.State != role.Other {
		t.Errorf("it is %+v", s)
	}
	for _, port := range []int{primaryPort, secondaryPort} {
		_, err := tr.reach(tr.agents[0], serviceOf(role.Primary), port)
		wantRefused(t, "a mongod without a guard", err)
	}
	tr.wantTerms(t, 0)
	tr.elect(1, 2)
	tr.awaitServed(t, 1, 2)
}
