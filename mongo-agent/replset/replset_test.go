package replset_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/goleak"

	"sluice/internal/mongotest"
	"sluice/mongo-agent/account"
	"sluice/mongo-agent/mongod"
	"sluice/mongo-agent/replset"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is Consul's part, for one process.
type store struct {
	lock   sync.Mutex
	mu     sync.Mutex
	values map[string][]byte
	held   int
}

func (s *store) WithLock(ctx context.Context, _ string, fn func(context.Context) error) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.held++
	return fn(ctx)
}

func (s *store) KVGet(_ context.Context, key string) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[key]
	return v, ok, nil
}

func (s *store) KVPut(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values == nil {
		s.values = map[string][]byte{}
	}
	s.values[key] = value
	return nil
}

type fixture struct {
	set *mongotest.Set
	key mongod.Secret
	cfg replset.Config
}

func start(t *testing.T) fixture {
	t.Helper()
	set := mongotest.Start(t, mongotest.Config{})
	key, err := mongod.ReadKey(set.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return fixture{set, key, replset.Config{
		Timing: replset.Timing{Heartbeat: 500 * time.Millisecond, Election: 2 * time.Second},
		Set:    set.Name, Mongod: set.Members[0].Address, Members: membersOf(set),
		Key: key, Store: &store{}, Logger: slog.New(slog.DiscardHandler),
	}}
}

func membersOf(set *mongotest.Set) []replset.Member {
	var members []replset.Member
	for _, address := range set.Addresses() {
		members = append(members, replset.Member{Address: address, Datacenter: "dc1"})
	}
	return members
}

func (f fixture) system(t *testing.T, address string) *mongo.Client {
	t.Helper()
	client, err := mongod.System(address, f.key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mongod.Close(client) })
	return client
}

// config returns the set's version and its members' hosts.
func (f fixture) config(t *testing.T, address string) (version int64, hosts []string) {
	t.Helper()
	client := f.system(t, address)
	mongotest.Wait(t, 20*time.Second, "every member has a vote and the same priority", func(ctx context.Context) error {
		var reply struct {
			Config struct {
				Version int64 `bson:"version"`
				Members []struct {
					Host     string  `bson:"host"`
					Votes    int     `bson:"votes"`
					Priority float64 `bson:"priority"`
				} `bson:"members"`
			} `bson:"config"`
		}
		if err := mongod.Admin(ctx, client, bson.D{{Key: "replSetGetConfig", Value: 1}}, &reply); err != nil {
			return err
		}
		version, hosts = reply.Config.Version, nil
		for _, m := range reply.Config.Members {
			if m.Votes != 1 || m.Priority != 1 {
				return fmt.Errorf("member %+v", m)
			}
			hosts = append(hosts, m.Host)
		}
		return nil
	})
	return version, hosts
}

func TestSetComesUpOnceAndIsThenLeftAlone(t *testing.T) {
	f := start(t)
	started := time.Now()
	if err := replset.Bring(t.Context(), f.cfg); err != nil {
		t.Fatal(err)
	}
	t.Logf("initiated, extended, every member votes: %v", time.Since(started))
	version, hosts := f.config(t, f.set.Members[0].Address)
	if fmt.Sprint(hosts) != fmt.Sprint(f.set.Addresses()) {
		t.Fatalf("members %v, want %v", hosts, f.set.Addresses())
	}
	mongotest.Wait(t, time.Second, "every member votes", func(ctx context.Context) error {
		var status struct {
			Voting int `bson:"votingMembersCount"`
		}
		err := mongod.Admin(ctx, f.system(t, f.set.Members[0].Address), bson.D{{Key: "replSetGetStatus", Value: 1}}, &status)
		if err == nil && status.Voting != 3 {
			err = fmt.Errorf("%d", status.Voting)
		}
		return err
	})

	t.Run("again", func(t *testing.T) {
		if err := replset.Bring(t.Context(), f.cfg); err != nil {
			t.Fatal(err)
		}
		// A Consul that forgot everything must not disturb the set either.
		f.cfg.Store = &store{}
		if err := replset.Bring(t.Context(), f.cfg); err != nil {
			t.Fatal(err)
		}
		if again, _ := f.config(t, f.set.Members[0].Address); again != version {
			t.Errorf("version %d, was %d: the configuration was written again", again, version)
		}
	})
	t.Run("a second initiator of the same set is told that it is initiated", func(t *testing.T) {
		client := f.system(t, f.set.Members[1].Address)
		err := mongod.Admin(t.Context(), client, bson.D{{Key: "replSetInitiate", Value: bson.D{}}}, nil)
		if !mongod.HasCode(err, mongod.CodeAlreadyInitialized) {
			t.Errorf("%v, want AlreadyInitialized", err)
		}
	})
	t.Run("application user", func(t *testing.T) { testUser(t, f) })
}

func testUser(t *testing.T, f fixture) {
	cfg := account.Config{
		Address: f.set.Members[0].Address, Key: f.key, Database: "blog", Name: "web", Password: mongod.NewSecret("one"),
	}
	ensure := func(want account.Outcome) {
		t.Helper()
		started := time.Now()
		got, err := account.Ensure(t.Context(), cfg)
		if err != nil || got != want {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
		t.Logf("%s in %v", got, time.Since(started))
	}
	ensure(account.Created)
	ensure(account.Unchanged)
	cfg.Password = mongod.NewSecret("two")
	ensure(account.Updated)
	ensure(account.Unchanged)

	user, err := mongod.User(cfg.Address, "blog", "web", cfg.Password)
	if err != nil {
		t.Fatal(err)
	}
	defer mongod.Close(user)
	if _, err := user.Database("blog").Collection("entries").InsertOne(t.Context(), bson.D{{Key: "a", Value: 1}}); err != nil {
		t.Errorf("write to the own database: %v", err)
	}
	if _, err := user.Database("other").Collection("entries").InsertOne(t.Context(), bson.D{{Key: "a", Value: 1}}); !mongod.HasCode(err, mongod.CodeUnauthorized) {
		t.Errorf("write to another database: %v, want Unauthorized", err)
	}
	for command, want := range map[string]bool{"replSetGetStatus": true, "replSetGetConfig": true, "serverStatus": false, "replSetStepDown": false} {
		err := mongod.Admin(t.Context(), user, bson.D{{Key: command, Value: 1}}, nil)
		if got := !mongod.HasCode(err, mongod.CodeUnauthorized); got != want || want && err != nil {
			t.Errorf("%s: allowed %v (%v), want %v", command, got, err, want)
		}
	}
	system := f.system(t, cfg.Address)
	if err := system.Database("blog").RunCommand(t.Context(), bson.D{{Key: "grantRolesToUser", Value: "web"}, {Key: "roles", Value: bson.A{"dbAdmin"}}}).Err(); err != nil {
		t.Fatal(err)
	}
	ensure(account.Updated)
}

func TestMemberThatComesLateIsAddedWhenItAnswers(t *testing.T) {
	f := start(t)
	late := f.set.Members[2]
	late.Kill(t)
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() { done <- replset.Bring(ctx, f.cfg) }()
	client := f.system(t, f.set.Members[1].Address)
	mongotest.Wait(t, 20*time.Second, "the second member has its place", func(ctx context.Context) error {
		return mongod.Admin(ctx, client, bson.D{{Key: "replSetGetConfig", Value: 1}}, nil)
	})
	late.Start(t)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, hosts := f.config(t, f.set.Members[0].Address); len(hosts) != 3 {
		t.Errorf("members %v, want three", hosts)
	}
}
