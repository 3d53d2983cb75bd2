package hello_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/fakemongod"
	"sluice/mongo-agent/hello"
	"sluice/mongo-agent/role"
)

// Nothing here waits: the tests run in bubbles with a clock of their own, and a
// role that is seen "at once" is seen at the same instant of it.

const name = "fake:27017"

// scene is a fake mongod and a follower of it.
type scene struct {
	*fakemongod.Server
	follower *hello.Follower
	machine  *role.Machine

	mu     sync.Mutex
	events []hello.Event
}

// bubble runs a test beside a follower of a secondary at term 1.
func bubble(t *testing.T, test func(t *testing.T, s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		pipe := fakemongod.NewPipe(name)
		s := &scene{Server: fakemongod.Start(t, fakemongod.Config{Pipe: pipe, Hosts: []string{name, "other:27017"}})}
		s.Become(fakemongod.Secondary, 1)
		s.follower = hello.New(hello.Config{Address: name, Dialer: pipe, Logger: slog.New(slog.DiscardHandler)})
		s.machine = role.New(role.Config{Set: "consuldemo"}, time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		events := make(chan hello.Event)
		var group sync.WaitGroup
		group.Go(func() { _ = s.follower.Run(ctx, events) })
		group.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case e := <-events:
					s.take(e)
				}
			}
		})
		synctest.Wait()
		test(t, s)
		s.Thaw()
		cancel()
		group.Wait()
	})
}

func (s *scene) take(e hello.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
	if e.Reply != nil {
		s.machine.Heard(e.At, *e.Reply)
	} else {
		s.machine.Failed(e.At, e.Loss, e.Reason)
	}
}

// state returns what is known, once everybody is idle.
func (s *scene) state() role.Snapshot {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine.Snapshot()
}

// last returns the newest event.
func (s *scene) last() hello.Event {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.events[len(s.events)-1]
}

func (s *scene) want(t *testing.T, what string, state role.State, since time.Time) {
	t.Helper()
	if now := s.state(); now.State != state || !now.Since.Equal(since) {
		t.Errorf("%s: %v (%s) since %v after it happened; want %v since %v", what, now.State, now.Reason, now.Since.Sub(since), state, since)
	}
}

func TestRoleChangesAreKnownAtTheInstantInWhichTheyHappen(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		for i, c := range []struct {
			role fakemongod.Role
			want role.State
		}{
			{fakemongod.Recovering, role.Other},
			{fakemongod.Primary, role.Primary},
			{fakemongod.Secondary, role.Secondary},
			{fakemongod.Primary, role.Primary},
			{fakemongod.Recovering, role.Other},
			{fakemongod.CatchUp, role.Secondary},
			{fakemongod.Primary, role.Primary},
			{fakemongod.Startup, role.Other},
		} {
			time.Sleep(1337 * time.Millisecond) // between two probes
			at, before := time.Now(), s.Stats().Commands["hello"]
			s.Become(c.role, int64(i+2))
			s.want(t, c.role.String(), c.want, at)
			if e := s.last(); e.Reply == nil || !e.Reply.Asked.Before(at) {
				t.Errorf("%v: event %+v, want an answer to what was asked before the change", c.role, e)
			}
			// The answer that tells it, and the next question.
			if asked := s.Stats().Commands["hello"] - before; asked != 1 {
				t.Errorf("%v: %d hellos at the change, want 1", c.role, asked)
			}
		}
		if n := s.Stats().Exhaust; n != 0 {
			t.Errorf("%d hellos asked for several answers", n)
		}
	})
}

func TestLongQuietIsNoFailureAndCostsOneHelloPerProbe(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		synctest.Wait()
		before := s.Stats().Commands["hello"]
		since := s.state().Since
		time.Sleep(time.Minute)
		s.want(t, "quiet", role.Secondary, since)
		probes, awaits := int(time.Minute/hello.DefaultProbeInterval), int(time.Minute/hello.DefaultAwait)
		monitors := 2 * int(time.Minute/(10*time.Second)) // the driver's own, one per client
		if asked := s.Stats().Commands["hello"] - before; asked > probes+awaits+monitors+2 {
			t.Errorf("%d hellos in a minute, want %d probes, %d awaited and %d of the driver", asked, probes, awaits, monitors)
		}
	})
}

func TestFrozenMemberIsUnknownAfterOneProbeAndBackOnceThawed(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.Become(fakemongod.Primary, 3)
		synctest.Wait()
		frozen := time.Now()
		s.Freeze()
		time.Sleep(hello.DefaultProbeInterval + hello.DefaultProbeTimeout)
		now := s.state()
		if late := now.Since.Sub(frozen); now.State != role.Unknown || late < hello.DefaultProbeTimeout {
			t.Errorf("frozen: %v after %v, want unknown, not before %v", now.State, late, hello.DefaultProbeTimeout)
		}
		time.Sleep(30 * time.Second)
		if now := s.state(); now.State != role.Unknown {
			t.Errorf("still frozen: %v", now.State)
		}
		s.Thaw()
		time.Sleep(time.Second)
		if now := s.state(); now.State != role.Primary || now.Term != 3 {
			t.Errorf("thawed: %+v", now)
		}
		for _, e := range s.events {
			if e.Reply != nil && e.At.Sub(e.Reply.Asked) > hello.DefaultAwait+time.Second {
				t.Errorf("an answer of %v ago is passed on", e.At.Sub(e.Reply.Asked))
			}
		}
	})
}

func TestTermIsTheElectionsForAPrimaryAndTheLogsForASecondary(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.Become(fakemongod.Primary, 9)
		if now := s.state(); now.Term != 9 {
			t.Errorf("primary elected at term 9: %+v", now)
		}
		s.Change(func(m *fakemongod.Member) { m.OpTime.Term = 8 })
		if now := s.state(); now.Term != 9 {
			t.Errorf("primary elected at term 9 with a log of term 8: %+v", now)
		}
		s.Change(func(m *fakemongod.Member) { m.OpTime.Term = 9 })
		// A later term was heard of, but nothing of it is in the log yet.
		s.Change(func(m *fakemongod.Member) { m.Role, m.Term, m.Primary = fakemongod.Secondary, 11, "other:27017" })
		if now := s.state(); now.Term != 9 || now.State != role.Secondary || now.Primary != "other:27017" {
			t.Errorf("secondary with a log of term 9: %+v", now)
		}
		m := s.Member()
		want := role.OpTime{Term: 9, Timestamp: uint64(m.OpTime.Timestamp.T)<<32 | uint64(m.OpTime.Timestamp.I)}
		if got := s.last().Reply.OpTime; got != want || want.Timestamp == 0 {
			t.Errorf("optime %+v, want %+v", got, want)
		}
	})
}

// SERVER-76581: a member whose role changed says so with the topologyVersion that
// it had before.
func TestRoleChangeWithTheSameTopologyVersionIsCorrectedByTheNextProbe(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.Become(fakemongod.Primary, 2)
		synctest.Wait()
		time.Sleep(30 * time.Millisecond)
		at, version := time.Now(), s.Version()
		s.ChangeUnannounced(func(m *fakemongod.Member) { m.Role, m.Primary = fakemongod.Secondary, "" })
		if now := s.state(); now.State != role.Primary {
			t.Fatalf("it was told: %+v", now)
		}
		time.Sleep(hello.DefaultProbeInterval)
		now := s.state()
		if now.State != role.Secondary || now.Since.Sub(at) > hello.DefaultProbeInterval {
			t.Errorf("%v after %v, want secondary within a probe", now.State, now.Since.Sub(at))
		}
		if s.Version() != version {
			t.Error("the topologyVersion moved: this test shows nothing")
		}
		since := now.Since
		time.Sleep(2 * hello.DefaultAwait) // the awaited hello is answered too
		s.want(t, "later", role.Secondary, since)
	})
}

func TestAskedFollowerProbesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		time.Sleep(30 * time.Millisecond)
		s.ChangeUnannounced(func(m *fakemongod.Member) { m.Role = fakemongod.Recovering })
		if now := s.state(); now.State != role.Secondary {
			t.Fatalf("it was told: %+v", now)
		}
		at := time.Now()
		before := s.Stats().Commands["hello"]
		for range 100 {
			s.follower.Ask()
		}
		s.want(t, "asked", role.Other, at)
		if asked := s.Stats().Commands["hello"] - before; asked < 1 || asked > 2 {
			t.Errorf("%d probes for one reason, want 1 or 2", asked)
		}
		// The next tick comes a whole interval later.
		before = s.Stats().Commands["hello"]
		time.Sleep(hello.DefaultProbeInterval - time.Millisecond)
		synctest.Wait()
		if asked := s.Stats().Commands["hello"] - before; asked != 0 {
			t.Errorf("%d probes before the next tick", asked)
		}
	})
}

func TestAskIsKeptForAFollowerThatIsNotConnected(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.Kill()
		synctest.Wait()
		done := make(chan struct{})
		go func() { defer close(done); s.follower.Ask(); s.follower.Ask() }()
		<-done // it never blocks
	})
}

func TestKilledMemberIsDeadAtOnceAndRestartedOneIsAnotherProcess(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.Become(fakemongod.Primary, 2)
		process := s.last().Reply.Process
		time.Sleep(77 * time.Millisecond)
		at := time.Now()
		s.Kill()
		s.want(t, "killed", role.Dead, at)
		time.Sleep(10 * time.Second)
		s.want(t, "still dead", role.Dead, at)
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		if now := s.state(); now.State != role.Secondary {
			t.Errorf("restarted: %+v", now)
		}
		if again := s.last().Reply.Process; again == process {
			t.Error("the process is the same")
		}
	})
}

func TestShutdownIsTheEndAndIsNotAskedWithoutPause(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		time.Sleep(77 * time.Millisecond)
		at, before := time.Now(), s.Stats().Commands["hello"]
		s.Quiesce()
		s.want(t, "shutting down", role.Dead, at)
		if s.last().Reply != nil {
			t.Errorf("event %+v", s.last())
		}
		time.Sleep(2 * time.Second)
		if asked := s.Stats().Commands["hello"] - before; asked > 40 {
			t.Errorf("%d hellos in two seconds of shutdown", asked)
		}
	})
}

func TestResetConnectionsAreMadeAnew(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.Disconnect()
		if now := s.state(); now.State != role.Dead {
			t.Errorf("reset: %+v", now)
		}
		time.Sleep(50 * time.Millisecond)
		if now := s.state(); now.State != role.Secondary {
			t.Errorf("a moment later: %+v", now)
		}
	})
}
