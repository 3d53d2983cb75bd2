package hello_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/goleak"

	"sluice/internal/mongotest"
	"sluice/mongo-agent/hello"
	"sluice/mongo-agent/mongod"
	"sluice/mongo-agent/role"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// follow runs a follower and a machine behind it; wait blocks until the machine
// is in a state, quiet fails the test if the state changes within a time.
func follow(t *testing.T, address string) (wait func(role.State) role.Snapshot, quiet func(time.Duration)) {
	t.Helper()
	// Waits that end without news must be no news, so they are short here.
	const await = 300 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	events := make(chan hello.Event)
	states := make(chan role.Snapshot, 1000)
	var group sync.WaitGroup
	group.Go(func() {
		_ = hello.New(hello.Config{Address: address, Await: await, Logger: slog.New(slog.DiscardHandler)}).Run(ctx, events)
	})
	group.Go(func() {
		machine := role.New(role.Config{Set: "consuldemo"}, time.Now())
		last := role.Snapshot{}
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-events:
				if e.Reply != nil {
					machine.Heard(e.At, *e.Reply)
				} else {
					machine.Failed(e.At, e.Loss, e.Reason)
				}
				if now := machine.Snapshot(); now.State != last.State {
					last = now
					states <- now
				}
			}
		}
	})
	t.Cleanup(func() { cancel(); group.Wait() })
	quiet = func(within time.Duration) {
		t.Helper()
		select {
		case s := <-states:
			t.Errorf("%v (%s) although nothing happened", s.State, s.Reason)
		case <-time.After(within):
		}
	}
	wait = func(want role.State) role.Snapshot {
		t.Helper()
		deadline := time.After(15 * time.Second)
		var seen []string
		for {
			select {
			case s := <-states:
				if s.State == want {
					return s
				}
				seen = append(seen, s.State.String()+" ("+s.Reason+")")
			case <-deadline:
				t.Fatalf("not %v within 15 s, only %s", want, strings.Join(seen, ", "))
			}
		}
	}
	return wait, quiet
}

func initiated(t *testing.T) (*mongotest.Set, func(command bson.D) error) {
	t.Helper()
	set := mongotest.Start(t, mongotest.Config{Addresses: []string{mongotest.FreeAddress(t, "127.0.0.1")}})
	key, err := mongod.ReadKey(set.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	admin := func(command bson.D) error {
		client, err := mongod.System(set.Members[0].Address, key)
		if err != nil {
			return err
		}
		defer mongod.Close(client)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return mongod.Admin(ctx, client, command, nil)
	}
	return set, admin
}

func config(address string) bson.D {
	return bson.D{{Key: "replSetInitiate", Value: bson.D{
		{Key: "_id", Value: "consuldemo"},
		{Key: "members", Value: bson.A{bson.D{{Key: "_id", Value: 0}, {Key: "host", Value: address}}}},
		{Key: "settings", Value: bson.D{{Key: "electionTimeoutMillis", Value: 1000}}},
	}}}
}

func TestRoleIsFollowedThroughAMembersWholeLife(t *testing.T) {
	set, admin := initiated(t)
	member := set.Members[0]
	wait, quiet := follow(t, member.Address)

	if s := wait(role.Other); !strings.Contains(s.Reason, "replica set config") {
		t.Errorf("reason before initiation: %q", s.Reason)
	}
	if err := admin(config(member.Address)); err != nil {
		t.Fatal(err)
	}
	first := wait(role.Primary)
	quiet(1500 * time.Millisecond)
	if first.Term < 1 || first.Me != member.Address || first.Set != "consuldemo" || first.Primary != member.Address {
		t.Errorf("as primary: %+v", first)
	}

	if err := admin(bson.D{{Key: "replSetStepDown", Value: 1}, {Key: "force", Value: true}}); err != nil {
		t.Fatal(err)
	}
	stepped := time.Now()
	down := wait(role.Secondary)
	t.Logf("step-down known %v before the command's answer was here", stepped.Sub(down.Since))
	again := wait(role.Primary)
	if again.Term <= first.Term {
		t.Errorf("term %d after an election, want more than %d", again.Term, first.Term)
	}

	member.Signal(t, syscall.SIGSTOP)
	stopped := time.Now()
	silent := wait(role.Unknown)
	t.Logf("frozen: known after %v", silent.Since.Sub(stopped))
	member.Signal(t, syscall.SIGCONT)
	wait(role.Primary)

	killed := time.Now()
	member.Kill(t)
	dead := wait(role.Dead)
	t.Logf("killed: known after %v", dead.Since.Sub(killed))
	member.Start(t)
	wait(role.Primary)

	member.Signal(t, syscall.SIGTERM)
	wait(role.Dead)
}

func TestNobodyAtTheAddressIsDeadAtOnce(t *testing.T) {
	wait, _ := follow(t, mongotest.FreeAddress(t, "127.0.0.1"))
	if s := wait(role.Dead); !strings.Contains(s.Reason, "refused") {
		t.Errorf("reason %q, want refused", s.Reason)
	}
}

func TestWhoAcceptsAndNeverAnswersIsNotFollowed(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan hello.Event)
	var group sync.WaitGroup
	group.Go(func() {
		_ = hello.New(hello.Config{Address: silent.Addr().String(), Logger: slog.New(slog.DiscardHandler)}).Run(ctx, events)
	})
	e := <-events
	cancel()
	group.Wait()
	if e.Reply != nil || e.Loss != role.Silent {
		t.Errorf("event %+v, want silence", e)
	}
}
