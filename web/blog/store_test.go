package blog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/goleak"

	"sluice/internal/meshtest"
	"sluice/internal/mongotest"
	"sluice/mesh"
	"sluice/web/blog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	user     = "web"
	password = "a password for tests"
)

var allow = meshtest.Allow("web", "mongo-primary")

// lab is a store whose way to a real mongod leads over a mesh.
type lab struct {
	*meshtest.World
	*blog.Store
	t        *testing.T
	own      *meshtest.Policy // what web knows
	upstream *mesh.Upstream
	dialer   *mesh.Dialer
	relay    mesh.Instance
	mongod   *mongotest.Member
	system   *mongo.Client
}

// start runs the lab with the way allowed. split gives web its own view of the
// intentions.
func start(t *testing.T, split bool) *lab {
	t.Helper()
	return startWith(t, split, mongotest.Start(t, mongotest.Config{Addresses: []string{mongotest.FreeAddress(t, "127.0.0.1")}}))
}

// startWith is start with the first mongod of a set.
func startWith(t *testing.T, split bool, set *mongotest.Set) *lab {
	t.Helper()
	l := &lab{World: meshtest.New(t), t: t, mongod: set.Members[0]}
	l.own = l.Policy
	if split {
		l.own = meshtest.NewPolicy()
		l.own.Set(allow)
	}
	l.Policy.Set(allow)
	l.initiate(set)

	l.relay = l.Relay("mongo-primary", "mongo-1", l.mongod.Address)
	l.dialer = l.Dialer("web", l.own)
	var err error
	l.upstream, err = mesh.ListenUpstream(mesh.UpstreamConfig{
		Service: "mongo-primary", Address: "127.0.0.1:0", Dialer: l.dialer, DrainTimeout: -1, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	l.World.Run("upstream", l.upstream.Run)
	l.Store = l.open(blog.Config{})
	return l
}

func (l *lab) open(cfg blog.Config) *blog.Store {
	l.t.Helper()
	cfg.Service, cfg.Address, cfg.Way, cfg.User, cfg.Password = "mongo-primary", l.upstream.Addr().String(), l.upstream, user, password
	cfg.Probe = func(ctx context.Context) error {
		conn, err := l.dialer.Dial(ctx, "mongo-primary")
		if err != nil {
			return err
		}
		return conn.Close()
	}
	store, err := blog.Open(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.World.Run("store", store.Run)
	return store
}

// initiate makes the member a replica set of one with the blog's user.
func (l *lab) initiate(set *mongotest.Set) {
	l.t.Helper()
	var err error
	l.system, err = mongo.Connect(options.Client().ApplyURI("mongodb://" + l.mongod.Address + "/?directConnection=true").
		SetAuth(options.Credential{AuthSource: "local", Username: "__system", Password: set.Key(l.t)}).SetTimeout(5 * time.Second))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = l.system.Disconnect(ctx)
	})
	member := bson.D{{Key: "_id", Value: 0}, {Key: "host", Value: l.mongod.Address}}
	config := bson.D{{Key: "_id", Value: set.Name}, {Key: "members", Value: bson.A{member}}}
	l.command(bson.D{{Key: "replSetInitiate", Value: config}})
	mongotest.Wait(l.t, 20*time.Second, "the blog's user exists", func(ctx context.Context) error {
		return l.system.Database("blog").RunCommand(ctx, bson.D{
			{Key: "createUser", Value: user}, {Key: "pwd", Value: password}, {Key: "roles", Value: bson.A{"readWrite"}},
		}).Err()
	})
}

func (l *lab) command(command bson.D) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := l.system.Database("admin").RunCommand(ctx, command).Err(); err != nil {
		l.t.Fatalf("%s: %v", command[0].Key, err)
	}
}

func entry(n int, title string) blog.Entry {
	return blog.Entry{
		ID: fmt.Sprintf("%032x", n), Title: title, Body: "body of " + title,
		Created: time.UnixMilli(int64(1_700_000_000_000 + n)).UTC(), Via: "web-web-1",
	}
}

// abandon takes the primary away for good, and waits until the way to it knows.
func (l *lab) abandon(t *testing.T) {
	t.Helper()
	l.Catalog.Remove(l.relay)
	l.mongod.Kill(t)
	mongotest.Wait(t, 10*time.Second, "the way knows that nobody is there", func(context.Context) error {
		if err := l.upstream.Err(); !errors.Is(err, mesh.ErrNoInstance) {
			return fmt.Errorf("%w", err)
		}
		return nil
	})
}

func (l *lab) add(n int, title string) {
	l.t.Helper()
	if _, err := l.Add(l.t.Context(), entry(n, title)); err != nil {
		l.t.Fatalf("add %q: %v", title, err)
	}
}

func TestStoreKeepsEntriesOnceAndTheNewestFirst(t *testing.T) {
	l := start(t, false)
	hello, err := l.Hello(t.Context())
	if err != nil || !hello.IsPrimary || hello.Me != l.mongod.Address || hello.Primary != l.mongod.Address || len(hello.Hosts) != 1 {
		t.Fatalf("hello = %+v, %v", hello, err)
	}
	if none, err := l.Newest(t.Context(), 5); err != nil || none == nil || len(none) != 0 {
		t.Fatalf("empty blog: %v, %v; want an empty list", none, err)
	}
	for n := range 4 {
		l.add(n, fmt.Sprint("entry ", n))
	}
	if fresh, err := l.Add(t.Context(), entry(3, "entry 3")); err != nil || fresh {
		t.Errorf("the same entry again: fresh = %v, %v; want it stored once", fresh, err)
	}
	if _, err := l.Add(t.Context(), entry(3, "another")); !errors.Is(err, blog.ErrTaken) {
		t.Errorf("another entry with the same ID: %v, want ErrTaken", err)
	}
	got, err := l.Newest(t.Context(), 3)
	if err != nil || len(got) != 3 || got[0] != entry(3, "entry 3") || got[2].Title != "entry 1" {
		t.Fatalf("newest = %+v, %v", got, err)
	}
	secondary := l.open(blog.Config{Secondary: true})
	traced := blog.Traced(t.Context())
	if member := l.Member(traced); member != "" {
		t.Errorf("%q served nothing", member)
	}
	if _, err := secondary.Newest(traced, 1); err != nil || secondary.Member(traced) != hello.Me || hello.Me == "" {
		t.Errorf("served by %q, want %q; %v", secondary.Member(traced), hello.Me, err)
	}
	if again, err := secondary.Newest(t.Context(), 1); err != nil || len(again) != 1 {
		t.Errorf("by the reading store: %+v, %v", again, err)
	}
}

func TestDenyEndsTheVeryNextOperationAndAllowLetsTheNextThrough(t *testing.T) {
	l := start(t, false)
	l.add(0, "before")
	var slowestDeny, slowestAllow time.Duration
	for range 15 {
		l.Policy.Set(meshtest.Deny("web", "mongo-primary"))
		begin := time.Now()
		_, err := l.Newest(t.Context(), 1)
		slowestDeny = max(slowestDeny, time.Since(begin))
		var denied *mesh.DeniedError
		if !errors.As(err, &denied) || denied.Error() != "denied by intention web -> mongo-primary" {
			t.Fatalf("after deny: %v, want the denial", err)
		}
		l.Policy.Set(allow)
		begin = time.Now()
		if _, err := l.Newest(t.Context(), 1); err != nil {
			t.Fatalf("after allow: %v", err)
		}
		slowestAllow = max(slowestAllow, time.Since(begin))
	}
	t.Logf("slowest of 15: denied after %v, answered after allow within %v", slowestDeny, slowestAllow)
	if slowestDeny > 2*time.Second || slowestAllow > 3*time.Second {
		t.Errorf("slowest: denied after %v, answered after %v; an operation must not sit out a time-out", slowestDeny, slowestAllow)
	}
}

func TestLongDenialIsForgottenAtOnce(t *testing.T) {
	l := start(t, false)
	l.add(0, "before")
	l.Policy.Set()
	until := time.Now().Add(2 * time.Second)
	for time.Now().Before(until) {
		if _, err := l.Hello(t.Context()); !errors.Is(err, mesh.ErrDenied) {
			t.Fatalf("while denied: %v", err)
		}
		<-time.After(50 * time.Millisecond)
	}
	l.Policy.Set(allow)
	begin := time.Now()
	if _, err := l.Hello(t.Context()); err != nil {
		t.Fatalf("after allow: %v", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("the first operation after 2 s of denial took %v", took)
	}
}

func TestDenyEndsAnOperationThatIsUnderWay(t *testing.T) {
	l := start(t, false)
	l.add(0, "before")
	l.command(bson.D{{Key: "fsync", Value: 1}, {Key: "lock", Value: true}}) // writes hang
	t.Cleanup(func() { l.command(bson.D{{Key: "fsyncUnlock", Value: 1}}) })
	done := make(chan error, 1)
	go func() {
		_, err := l.Add(context.Background(), entry(1, "under way"))
		done <- err
	}()
	mongotest.Wait(t, 5*time.Second, "the write waits in mongod", func(ctx context.Context) error {
		var ops struct {
			InProgress []bson.M `bson:"inprog"`
		}
		err := l.system.Database("admin").RunCommand(ctx, bson.D{{Key: "currentOp", Value: 1}, {Key: "ns", Value: "blog.entries"}, {Key: "waitingForLock", Value: true}}).Decode(&ops)
		if err == nil && len(ops.InProgress) == 0 {
			return errors.New("no such operation")
		}
		return err
	})
	begin := time.Now()
	l.Policy.Set()
	select {
	case err := <-done:
		if !errors.Is(err, mesh.ErrDenied) || blog.OutcomeOf(err) != blog.Unknown {
			t.Fatalf("error = %v (%v), want the denial, and the outcome unknown", err, blog.OutcomeOf(err))
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("it ended %v after the deny", took)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the operation still hangs 5 s after the deny")
	}
}

func TestDenialThatOnlyTheDestinationKnowsIsBelievedAndForgotten(t *testing.T) {
	l := start(t, true)
	l.add(0, "before")
	for range 3 {
		l.Policy.Set(meshtest.Deny("web", "mongo-primary"))
		// An operation that was under way on an open connection may come before the cut.
		mongotest.Wait(t, 5*time.Second, "the destination's deny is told", func(ctx context.Context) error {
			if _, err := l.Hello(ctx); !errors.Is(err, mesh.ErrDenied) || !strings.Contains(err.Error(), "denied by the destination: web -> mongo-primary") {
				return fmt.Errorf("after deny: %v", err)
			}
			return nil
		})
		if _, err := l.Hello(t.Context()); !errors.Is(err, mesh.ErrDenied) {
			t.Fatalf("once more: %v", err)
		}
		l.Policy.Set(allow)
		begin := time.Now()
		if _, err := l.Hello(t.Context()); err != nil {
			t.Fatalf("after allow: %v", err)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("it took %v after the allow", took)
		}
	}
}

func TestMissingInstanceIsNamedAndItsReturnIsNoticed(t *testing.T) {
	l := start(t, false)
	l.add(0, "before")
	l.Catalog.Remove(l.relay)
	l.mongod.Kill(t) // ends the connections that are open
	begin := time.Now()
	_, err := l.Hello(t.Context())
	if !errors.Is(err, mesh.ErrNoInstance) {
		t.Fatalf("error = %v, want ErrNoInstance", err)
	}
	if took := time.Since(begin); took > blog.ReadTimeout+time.Second {
		t.Errorf("it took %v", took)
	}
	l.mongod.Start(t)
	l.mongod.WaitListening(t)
	l.Catalog.Add(l.relay)
	mongotest.Wait(t, 15*time.Second, "the blog works again", func(ctx context.Context) error {
		_, err := l.Add(ctx, entry(1, "after"))
		return err
	})
}

// What is refused because nobody was there is known not to be stored; a write that
// met the end of the primary is not.
func TestAWriteThatNobodyTookIsRefusedOnceItWasHeld(t *testing.T) {
	l := start(t, false)
	l.add(0, "before")
	l.abandon(t)
	begin := time.Now()
	_, err := l.Add(t.Context(), entry(1, "nobody there"))
	took := time.Since(begin)
	if !errors.Is(err, mesh.ErrNoInstance) || took < mesh.DefaultHold-time.Second || took >= blog.WriteTimeout {
		t.Errorf("%v after %v, want ErrNoInstance after %v", err, took, mesh.DefaultHold)
	}
	if got := blog.OutcomeOf(err); got != blog.Refused {
		t.Errorf("%v: %v, want refused: nothing was sent", err, got)
	}
}

func TestWhatIsHeldIsRefusedAtOnceWhenTheProcessLeaves(t *testing.T) {
	l := start(t, false)
	l.add(0, "before")
	l.abandon(t)
	done := make(chan error, 1)
	go func() {
		_, err := l.Add(context.Background(), entry(1, "held"))
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("it was not held: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	refused := func(err error) {
		t.Helper()
		if !errors.Is(err, mesh.ErrNoInstance) || blog.OutcomeOf(err) != blog.Refused {
			t.Errorf("%v: %v, want ErrNoInstance, refused", err, blog.OutcomeOf(err))
		}
	}
	began := time.Now()
	l.EndHolds()
	refused(<-done)
	_, err := l.Add(t.Context(), entry(2, "later"))
	refused(err)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("refused after %v", took)
	}
	l.mongod.Start(t)
	l.mongod.WaitListening(t)
	l.Catalog.Add(l.relay)
	mongotest.Wait(t, 15*time.Second, "what can be sent is done all the same", func(ctx context.Context) error {
		_, err := l.Add(ctx, entry(3, "after"))
		return err
	})
}

func TestWrongPasswordIsAnErrorSoonAndNeverShown(t *testing.T) {
	l := start(t, false)
	store, err := blog.Open(blog.Config{
		Service: "mongo-primary", Address: l.upstream.Addr().String(), Way: l.upstream, User: user, Password: "wrong-" + password,
	})
	if err != nil {
		t.Fatal(err)
	}
	l.World.Run("store", store.Run)
	_, err = store.Newest(t.Context(), 1)
	if err == nil || strings.Contains(err.Error(), password) {
		t.Fatalf("error = %v, want one without the password", err)
	}
}
