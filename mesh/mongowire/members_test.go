package mongowire_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"sluice/internal/meshtest"
	"sluice/internal/mongotest"
	"sluice/mesh"
)

// cast is a replica set of three with both doors of each member, of which one is
// open: that of its role. It does what mongo-agents do, slowly.
type cast struct {
	*meshtest.World
	t   *testing.T
	set *mongotest.Set
}

func newCast(t *testing.T) *cast {
	t.Helper()
	c := &cast{World: meshtest.New(t), t: t, set: mongotest.Start(t, mongotest.Config{})}
	c.Policy.Set(meshtest.Allow("web", "mongo-primary"), meshtest.Allow("web", "mongo-secondary"))
	var members bson.A
	for i, address := range c.set.Addresses() {
		members = append(members, bson.D{{Key: "_id", Value: i}, {Key: "host", Value: address}})
	}
	config := bson.D{
		{Key: "_id", Value: c.set.Name},
		{Key: "members", Value: members},
		{Key: "settings", Value: bson.D{{Key: "electionTimeoutMillis", Value: 1000}}},
	}
	if err := c.admin(c.set.Members[0], bson.D{{Key: "replSetInitiate", Value: config}}).Err(); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.set.Members {
		c.play(m)
	}
	return c
}

func (c *cast) credential() options.Credential {
	return options.Credential{AuthSource: "local", Username: "__system", Password: c.set.Key(c.t)}
}

func (c *cast) direct(m *mongotest.Member) *mongo.Client {
	c.t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://" + m.Address + "/?directConnection=true").SetAuth(c.credential()).SetTimeout(5 * time.Second))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	return client
}

func (c *cast) admin(m *mongotest.Member, command bson.D) *mongo.SingleResult {
	c.t.Helper()
	return c.direct(m).Database("admin").RunCommand(c.t.Context(), command)
}

// play follows a member's role with its doors and its registration.
func (c *cast) play(m *mongotest.Member) {
	client := c.direct(m)
	doors := map[string]*meshtest.Door{}
	for _, service := range []string{"mongo-primary", "mongo-secondary"} {
		doors[service] = c.Door(service, m.Address)
	}
	c.Run("role of "+m.Address, func(ctx context.Context) error {
		open := ""
		var registered mesh.Instance
		for ticker := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				ticker.Stop()
				return nil
			}
			service, term := c.role(ctx, client)
			if service == open || ctx.Err() != nil {
				continue
			}
			if open != "" {
				doors[open].Cut()
				c.Catalog.Remove(registered)
			}
			if open = service; open != "" {
				doors[open].Open(c.t)
				registered = doors[open].Instance(m.Address, map[string]string{"member": m.Address, "term": strconv.FormatInt(term, 10)})
				c.Catalog.Add(registered)
			}
		}
	})
}

func (c *cast) role(ctx context.Context, client *mongo.Client) (service string, term int64) {
	var hello struct {
		Writable  bool `bson:"isWritablePrimary"`
		Secondary bool `bson:"secondary"`
		LastWrite struct {
			OpTime struct {
				Term int64 `bson:"t"`
			} `bson:"opTime"`
		} `bson:"lastWrite"`
	}
	if client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello) != nil {
		return "", 0
	}
	switch {
	case hello.Writable:
		return "mongo-primary", hello.LastWrite.OpTime.Term
	case hello.Secondary:
		return "mongo-secondary", hello.LastWrite.OpTime.Term
	}
	return "", 0
}

func TestAFullSeedListWithReadPreferencesWorksOverTheMesh(t *testing.T) {
	c := newCast(t)
	client, byMember, err := connect(c.Dialer("web", c.Policy), c.set.Name, c.set.Addresses(), c.credential())
	if err != nil {
		t.Fatal(err)
	}
	c.Run("members", byMember.Run)
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	entries := client.Database("t").Collection("entries")
	insert := func(id string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := entries.InsertOne(ctx, bson.D{{Key: "_id", Value: id}})
			if mongo.IsDuplicateKeyError(err) {
				return nil
			}
			return err
		}
	}
	mongotest.Wait(t, 40*time.Second, "a write", insert("first"))
	var hello struct {
		Me        string `bson:"me"`
		Primary   string `bson:"primary"`
		Secondary bool   `bson:"secondary"`
	}
	mongotest.Wait(t, 20*time.Second, "a secondary answers a read", func(ctx context.Context) error {
		if err := client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}, options.RunCmd().SetReadPreference(readpref.Secondary())).Decode(&hello); err != nil {
			return err
		}
		if !hello.Secondary {
			return fmt.Errorf("%s answered", hello.Me)
		}
		return nil
	})
	old := hello.Primary
	if err := c.admin(c.set.Member(t, old), bson.D{{Key: "replSetStepDown", Value: 20}}).Err(); err != nil {
		t.Fatal(err)
	}
	mongotest.Wait(t, 40*time.Second, "a write through another primary", func(ctx context.Context) error {
		if err := insert("second")(ctx); err != nil {
			return err
		}
		if err := client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}, options.RunCmd().SetReadPreference(readpref.Secondary())).Decode(&hello); err != nil {
			return err
		}
		if hello.Primary == old || hello.Primary == "" {
			return errors.New("still " + old)
		}
		return nil
	})
}

// BenchmarkWays compares the local listener with the dialer on the same mongod,
// in the same run: latency of one insert, and inserts a second of 16 writers.
func BenchmarkWays(b *testing.B) {
	s := newStage(b)
	address := s.set.Members[0].Address
	s.connect(s.leading)
	s.doors[0].Open(b)
	s.Catalog.Add(s.doors[0].Instance("node", map[string]string{"member": address, "term": "1"}))
	direct, byMember, err := connect(s.Dialer("web", s.Policy), s.set.Name, []string{address},
		options.Credential{AuthSource: "local", Username: "__system", Password: s.set.Key(b)})
	if err != nil {
		b.Fatal(err)
	}
	s.Run("members", byMember.Run)
	b.Cleanup(func() { _ = direct.Disconnect(context.Background()) })
	ways := []*mongo.Client{s.client, direct}
	insert := func(client *mongo.Client) {
		if _, err := client.Database("t").Collection("bench").InsertOne(context.Background(), bson.D{{Key: "x", Value: 1}}); err != nil {
			b.Error(err)
		}
	}
	for _, way := range ways {
		insert(way)
	}
	b.Run("latency", func(b *testing.B) {
		var took [2]time.Duration
		for n := range b.N {
			for i := range ways {
				way := (n + i) % 2
				begin := time.Now()
				insert(ways[way])
				took[way] += time.Since(begin)
			}
		}
		b.ReportMetric(float64(took[0].Microseconds())/float64(b.N), "us-5501")
		b.ReportMetric(float64(took[1].Microseconds())/float64(b.N), "us-dialer")
		b.ReportMetric(float64(took[0])/float64(took[1]), "ratio")
	})
	b.Run("throughput", func(b *testing.B) {
		var took [2]time.Duration
		for n := range b.N {
			for i := range ways {
				way := (n + i) % 2
				begin := time.Now()
				var writers sync.WaitGroup
				for range 16 {
					writers.Go(func() {
						for range 10 {
							insert(ways[way])
						}
					})
				}
				writers.Wait()
				took[way] += time.Since(begin)
			}
		}
		b.ReportMetric(160*float64(b.N)/took[0].Seconds(), "inserts/s-5501")
		b.ReportMetric(160*float64(b.N)/took[1].Seconds(), "inserts/s-dialer")
		b.ReportMetric(took[0].Seconds()/took[1].Seconds(), "ratio")
	})
}
