package fakemongod_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"sluice/internal/fakemongod"
)

// inBubble runs a test with a primary at term 1 and a driver's client that has
// logged in, in virtual time.
func inBubble(t *testing.T, test func(t *testing.T, s *fakemongod.Server, c *mongo.Collection)) {
	synctest.Test(t, func(t *testing.T) {
		pipe := fakemongod.NewPipe("fake:27017")
		s := fakemongod.Start(t, fakemongod.Config{Pipe: pipe, Key: "key of the fake", Hosts: []string{"fake:27017"}})
		s.Become(fakemongod.Primary, 1)
		client, err := mongo.Connect(options.Client().SetHosts([]string{"fake:27017"}).SetDirect(true).SetDialer(pipe).
			SetRetryWrites(false).SetAuth(options.Credential{AuthMechanism: "SCRAM-SHA-256", AuthSource: "local", Username: "__system", Password: "key of the fake"}))
		if err != nil {
			t.Fatal(err)
		}
		test(t, s, client.Database("blog").Collection("entries"))
		_ = client.Disconnect(context.WithoutCancel(t.Context()))
	})
}

// killed has a step-down kill a write that waits for its majority, and returns
// the topologyVersion in the write's error and the one from before.
func killed(t *testing.T, stale bool) (got, before, after fakemongod.Version) {
	inBubble(t, func(t *testing.T, s *fakemongod.Server, c *mongo.Collection) {
		s.Change(func(m *fakemongod.Member) { m.Majority, m.StaleKill = false, stale })
		before = s.Version()
		failed := make(chan error, 1)
		go func() {
			_, err := c.InsertOne(context.WithoutCancel(t.Context()), bson.D{{Key: "_id", Value: 1}})
			failed <- err
		}()
		synctest.Wait()
		if n := s.Stats().Waiting; n != 1 {
			t.Fatalf("%d writes wait for a majority, want 1", n)
		}
		s.Become(fakemongod.Secondary, 1)
		after = s.Version()
		err := <-failed
		var refused mongo.CommandError
		if !errors.As(err, &refused) || refused.Code != fakemongod.InterruptedDueToReplStateChange {
			t.Fatalf("the write: %v", err)
		}
		if err := bson.Unmarshal(refused.Raw.Lookup("topologyVersion").Value, &got); err != nil {
			t.Fatal(err)
		}
	})
	return got, before, after
}

func TestWriteKilledByAStepDownCarriesTheNewTopologyVersion(t *testing.T) {
	if got, _, after := killed(t, false); got != after {
		t.Errorf("%+v, want %+v", got, after)
	}
}

func TestWriteKilledByAStepDownCarriesTheOldTopologyVersionIfToldTo(t *testing.T) {
	if got, before, after := killed(t, true); got != before || got == after {
		t.Errorf("%+v, want %+v, not %+v", got, before, after)
	}
}

func TestHandlersAnswerInPlaceOfTheFake(t *testing.T) {
	inBubble(t, func(t *testing.T, s *fakemongod.Server, c *mongo.Collection) {
		ctx := context.WithoutCancel(t.Context())
		insert := func(id int) error { _, err := c.InsertOne(ctx, bson.D{{Key: "_id", Value: id}}); return err }
		answer := func(err error) {
			s.Handle("insert", func(context.Context, fakemongod.Request) (bson.D, error) { return nil, err })
		}
		answer(fakemongod.NotPrimary())
		var refused mongo.CommandError
		if err := insert(1); !errors.As(err, &refused) || refused.Code != fakemongod.NotWritablePrimary {
			t.Errorf("refused by a handler: %v", err)
		}
		answer(fakemongod.ErrHangUp)
		if err := insert(2); !mongo.IsNetworkError(err) {
			t.Errorf("hung up by a handler: %v", err)
		}
		answer(fakemongod.ErrDefault)
		if err := insert(3); err != nil {
			t.Errorf("left to the fake: %v", err)
		}
		s.Handle("insert", nil)
		if err := insert(3); !mongo.IsDuplicateKeyError(err) {
			t.Errorf("without a handler: %v", err)
		}
	})
}
