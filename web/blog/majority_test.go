package blog_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"sluice/internal/mongotest"
	"sluice/web/blog"
)

// A primary that is cut off has entries that it rolls back later. An entry that is
// sent again must not be called stored because of one of those.
func TestAnEntryThatOnlyThePrimaryHasIsNotYetStored(t *testing.T) {
	addresses := []string{mongotest.FreeAddress(t, "127.0.0.1"), mongotest.FreeAddress(t, "127.0.0.1")}
	set := mongotest.Start(t, mongotest.Config{Addresses: addresses})
	l, other := startWith(t, false, set), set.Members[1]
	l.add(0, "before")
	l.join(set)
	other.Signal(t, syscall.SIGSTOP)
	t.Cleanup(func() { other.Signal(t, syscall.SIGCONT) })
	alone := l.system.Database("blog").Collection("entries", options.Collection().SetWriteConcern(writeconcern.W1()))
	if _, err := alone.InsertOne(t.Context(), entry(1, "by one")); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Committed(t.Context(), entry(1, "").ID); !errors.Is(err, blog.ErrPending) {
		t.Errorf("read back while only the primary has it: %+v, %v; want it pending", got, err)
	}
	late := blog.Blog{ID: "late", Name: "by one", Edit: "mine", Revision: 1}
	if _, err := alone.Database().Collection("blogs", options.Collection().SetWriteConcern(writeconcern.W1())).InsertOne(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := l.AddBlog(short, late); err == nil || blog.OutcomeOf(err) != blog.Unknown {
		t.Errorf("a blog that only the primary has: %v; want an unknown outcome", err)
	}
	if fresh, err := l.Add(short, entry(1, "by one")); err == nil {
		t.Errorf("added while only the primary has it: stored, fresh = %v; want an error", fresh)
	}
	other.Signal(t, syscall.SIGCONT)
	if err := l.AddBlog(t.Context(), late); err != nil {
		t.Errorf("a blog that a majority has: %v", err)
	}
	if fresh, err := l.Add(t.Context(), entry(1, "by one")); err != nil || fresh {
		t.Errorf("once a majority has it: fresh = %v, %v; want it stored before", fresh, err)
	}
}

func TestAMemberSaysHowManyVotersItHears(t *testing.T) {
	addresses := []string{mongotest.FreeAddress(t, "127.0.0.1"), mongotest.FreeAddress(t, "127.0.0.1")}
	set := mongotest.Start(t, mongotest.Config{Addresses: addresses})
	l, other := startWith(t, false, set), set.Members[1]
	if got, err := l.Quorum(t.Context()); err == nil || got.Known() {
		t.Errorf("without the right to ask: %+v, %v", got, err)
	}
	l.command(bson.D{{Key: "createRole", Value: "asker"}, {Key: "roles", Value: bson.A{}}, {Key: "privileges", Value: bson.A{bson.D{
		{Key: "resource", Value: bson.D{{Key: "cluster", Value: true}}}, {Key: "actions", Value: bson.A{"replSetGetConfig", "replSetGetStatus"}},
	}}}})
	grant := bson.D{{Key: "grantRolesToUser", Value: user}, {Key: "roles", Value: bson.A{bson.D{{Key: "role", Value: "asker"}, {Key: "db", Value: "admin"}}}}}
	if err := l.system.Database("blog").RunCommand(t.Context(), grant).Err(); err != nil {
		t.Fatal(err)
	}
	l.join(set)
	if got, err := l.Quorum(t.Context()); err != nil || got != (blog.Quorum{Heard: 2, Voters: 2}) {
		t.Errorf("both there: %+v, %v", got, err)
	}
	other.Kill(t)
	mongotest.Wait(t, 30*time.Second, "one of two is heard", func(ctx context.Context) error {
		got, err := l.Quorum(ctx)
		if err == nil && got != (blog.Quorum{Heard: 1, Voters: 2}) || got.Majority() {
			return fmt.Errorf("%+v", got)
		}
		return err
	})
}

// join makes the set one of two members, whose primary stays one although the
// other falls silent.
func (l *lab) join(set *mongotest.Set) {
	l.t.Helper()
	l.command(bson.D{{Key: "replSetReconfig", Value: bson.D{
		{Key: "_id", Value: set.Name},
		{Key: "version", Value: 10},
		{Key: "members", Value: bson.A{
			bson.D{{Key: "_id", Value: 0}, {Key: "host", Value: l.mongod.Address}},
			bson.D{{Key: "_id", Value: 1}, {Key: "host", Value: set.Members[1].Address}, {Key: "priority", Value: 0}},
		}},
		{Key: "settings", Value: bson.D{{Key: "electionTimeoutMillis", Value: 60_000}}},
	}}})
	mongotest.Wait(l.t, 30*time.Second, "the second member follows", func(ctx context.Context) error {
		var status struct {
			// A member that is new has no vote before it has caught up and the primary
			// has made one more configuration: until then the primary alone is the majority.
			Majority int `bson:"writeMajorityCount"`
			Members  []struct {
				State string `bson:"stateStr"`
			} `bson:"members"`
		}
		err := l.system.Database("admin").RunCommand(ctx, bson.D{{Key: "replSetGetStatus", Value: 1}}).Decode(&status)
		if err == nil && (len(status.Members) != 2 || status.Members[1].State != "SECONDARY" || status.Majority != 2) {
			return errors.New("not a secondary with a vote yet")
		}
		return err
	})
}
