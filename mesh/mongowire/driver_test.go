package mongowire_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"go.uber.org/goleak"

	"sluice/internal/meshtest"
	"sluice/internal/mongotest"
	"sluice/mesh"
	"sluice/mesh/mongowire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stage is one mongod behind two doors of which one is open.
type stage struct {
	*meshtest.World
	t        *testing.T
	set      *mongotest.Set
	doors    [2]*meshtest.Door
	upstream *mesh.Upstream
	client   *mongo.Client
}

func newStage(t *testing.T, adjust func(*mesh.UpstreamConfig), opts ...func(*options.ClientOptions)) *stage {
	t.Helper()
	s := &stage{World: meshtest.New(t), t: t}
	s.set = mongotest.Start(t, mongotest.Config{Addresses: []string{mongotest.FreeAddress(t, "127.0.0.1")}})
	s.initiate()
	s.Policy.Set(meshtest.Allow("web", "mongo-primary"))
	for i := range s.doors {
		s.doors[i] = s.Door("mongo-primary", s.set.Members[0].Address)
	}
	cfg := mesh.UpstreamConfig{Service: "mongo-primary", Address: "127.0.0.1:0", Dialer: s.Dialer("web", s.Policy), DrainTimeout: -1}
	adjust(&cfg)
	var err error
	if s.upstream, err = mesh.ListenUpstream(cfg); err != nil {
		t.Fatal(err)
	}
	s.Run("upstream", s.upstream.Run)
	s.client = s.connect(s.upstream.Addr().String(), opts...)
	return s
}

func (s *stage) connect(address string, adjust ...func(*options.ClientOptions)) *mongo.Client {
	s.t.Helper()
	opts := options.Client().ApplyURI("mongodb://" + address + "/?directConnection=true").
		SetAuth(options.Credential{AuthSource: "local", Username: "__system", Password: s.set.Key(s.t)}).
		SetWriteConcern(writeconcern.Majority()).SetTimeout(10 * time.Second).SetConnectTimeout(10 * time.Second).
		SetHeartbeatInterval(500 * time.Millisecond)
	for _, a := range adjust {
		a(opts)
	}
	client, err := mongo.Connect(opts)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = client.Disconnect(ctx)
	})
	return client
}

func (s *stage) initiate() {
	s.t.Helper()
	address := s.set.Members[0].Address
	client := s.connect(address)
	members := bson.A{bson.D{{Key: "_id", Value: 0}, {Key: "host", Value: address}}}
	config := bson.D{{Key: "_id", Value: s.set.Name}, {Key: "members", Value: members}}
	if err := client.Database("admin").RunCommand(s.t.Context(), bson.D{{Key: "replSetInitiate", Value: config}}).Err(); err != nil {
		s.t.Fatal(err)
	}
	mongotest.Wait(s.t, 20*time.Second, "the member writes", func(ctx context.Context) error {
		_, err := client.Database("t").Collection("ready").InsertOne(ctx, bson.D{})
		return err
	})
}

// writers inserts with n goroutines, one insert every 5 ms each, until stop, and
// tells of each acknowledgement.
func (s *stage) writers(n int, acknowledged func(time.Time)) (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var mu sync.Mutex
	failed := 0
	collection := s.client.Database("t").Collection("ledger")
	for range n {
		group.Go(func() {
			ticker := time.NewTicker(5 * time.Millisecond)
			defer ticker.Stop()
			for ctx.Err() == nil {
				_, err := collection.InsertOne(context.Background(), bson.D{})
				if err != nil {
					s.t.Logf("insert: %v", err)
					mu.Lock()
					failed++
					mu.Unlock()
				} else {
					acknowledged(time.Now())
				}
				<-ticker.C
			}
		})
	}
	return func() int { cancel(); group.Wait(); return failed }
}

// gap shuts the open door, opens the other one after pause, and returns how long
// it took from then to the first acknowledgement.
func (s *stage) gap(turn int, pause time.Duration, register bool) time.Duration {
	s.t.Helper()
	from, to := s.doors[turn%2], s.doors[(turn+1)%2]
	meta := func(n int) map[string]string { return map[string]string{"term": strconv.Itoa(n)} }
	var mu sync.Mutex
	var opened, first time.Time
	seen := make(chan struct{})
	stop := s.writers(4, func(at time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if !opened.IsZero() && at.After(opened) && first.IsZero() {
			first = at
			close(seen)
		}
	})
	warm := time.NewTimer(700 * time.Millisecond) // the monitor streams
	<-warm.C
	from.Cut()
	if register {
		s.Catalog.Remove(from.Instance("node", nil))
	}
	warm.Reset(pause)
	<-warm.C
	mu.Lock()
	opened = time.Now()
	to.Open(s.t)
	mu.Unlock()
	if register {
		s.Catalog.Add(to.Instance("node", meta(turn+2)))
	}
	select {
	case <-seen:
	case <-time.After(20 * time.Second):
		s.t.Fatal("no acknowledgement within 20 s")
	}
	if failed := stop(); failed > 0 {
		s.t.Errorf("turn %d: %d inserts failed", turn, failed)
	}
	return first.Sub(opened)
}

func term(i mesh.Instance) int64 {
	n, _ := strconv.ParseInt(i.Meta["term"], 10, 64)
	return n
}

func TestExperiment(t *testing.T) {
	for _, mode := range []string{"plain", "led", "watching"} {
		t.Run(mode, func(t *testing.T) {
			var s *stage
			s = newStage(t, func(cfg *mesh.UpstreamConfig) {
				if mode == "plain" {
					return
				}
				cfg.Epoch = func(mesh.Instance) int64 { return 0 }
				cfg.Candidates = func() []mesh.Instance {
					return []mesh.Instance{s0(s.doors[0]), s0(s.doors[1])}
				}
				if mode == "watching" {
					cfg.Protocol = mongowire.Protocol()
				}
			})
			s.doors[0].Open(t)
			s.Catalog.Add(s.doors[0].Instance("node", nil))
			var gaps []time.Duration
			for turn := range 10 {
				gaps = append(gaps, s.gap(turn, 120*time.Millisecond, mode == "plain").Round(100*time.Microsecond))
			}
			slices.Sort(gaps)
			t.Logf("%s: %v", mode, gaps)
			if mode != "plain" {
				r := s.upstream.Report()
				t.Logf("%+v", r.Counters)
				for _, sw := range r.Switches {
					t.Logf("sentinels %d back %v rest %d at %v released %v", sw.Sentinels, sw.SentinelBack.Sub(sw.Lost), sw.Rest, sw.RestReset.Sub(sw.Lost), sw.FirstReleased.Sub(sw.Lost))
				}
			}
		})
	}
}

func s0(d *meshtest.Door) mesh.Instance { return d.Instance("node", nil) }
