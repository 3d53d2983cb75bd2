package mongowire_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"syscall"
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

// stage is one real mongod behind two doors, of which one is open at a time: a
// role that moves, without the time that an election takes.
type stage struct {
	*meshtest.World
	t        testing.TB
	set      *mongotest.Set
	doors    [2]*meshtest.Door
	upstream *mesh.Upstream
	client   *mongo.Client
}

func newStage(t testing.TB) *stage {
	t.Helper()
	s := &stage{World: meshtest.New(t), t: t}
	s.set = mongotest.Start(t, mongotest.Config{Addresses: []string{mongotest.FreeAddress(t, "127.0.0.1")}})
	s.initiate()
	s.Policy.Set(meshtest.Allow("web", "mongo-primary"), meshtest.Allow("web", "mongo-secondary"))
	for i := range s.doors {
		s.doors[i] = s.Door("mongo-primary", s.set.Members[0].Address)
	}
	return s
}

// connect runs an upstream in front of the doors and a driver in front of that.
func (s *stage) connect(adjust func(*mesh.UpstreamConfig), opts ...func(*options.ClientOptions)) {
	s.t.Helper()
	cfg := mesh.UpstreamConfig{Service: "mongo-primary", Address: "127.0.0.1:0", Dialer: s.Dialer("web", s.Policy), DrainTimeout: -1}
	adjust(&cfg)
	var err error
	if s.upstream, err = mesh.ListenUpstream(cfg); err != nil {
		s.t.Fatal(err)
	}
	s.Run("upstream", s.upstream.Run)
	s.client = s.dial(s.upstream.Addr().String(), opts...)
}

// leading is an upstream that follows the leader and knows both doors.
func (s *stage) leading(cfg *mesh.UpstreamConfig) {
	cfg.Epoch = epoch
	cfg.Protocol = mongowire.Protocol()
	cfg.Candidates = func() []mesh.Instance {
		return []mesh.Instance{s.doors[0].Instance("node-0", nil), s.doors[1].Instance("node-1", nil)}
	}
}

func epoch(i mesh.Instance) int64 {
	n, _ := strconv.ParseInt(i.Meta["term"], 10, 64)
	return n
}

func (s *stage) dial(address string, adjust ...func(*options.ClientOptions)) *mongo.Client {
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
	client := s.dial(address)
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

// writing inserts with four goroutines, each every 5 ms, until stop, which
// returns when each insert was acknowledged and the errors of the others.
func (s *stage) writing() (stop func() ([]time.Time, []error)) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var mu sync.Mutex
	var acknowledged []time.Time
	var failed []error
	collection := s.client.Database("t").Collection("ledger")
	for range 4 {
		group.Go(func() {
			ticker := time.NewTicker(5 * time.Millisecond)
			defer ticker.Stop()
			for ctx.Err() == nil {
				_, err := collection.InsertOne(context.Background(), bson.D{})
				mu.Lock()
				if err != nil {
					failed = append(failed, err)
				} else {
					acknowledged = append(acknowledged, time.Now())
				}
				mu.Unlock()
				<-ticker.C
			}
		})
	}
	return func() ([]time.Time, []error) { cancel(); group.Wait(); return acknowledged, failed }
}

func pass(d time.Duration) { <-time.After(d) }

// gap moves the role to the other door, after pause with neither open, and
// returns how long after the opening the first write was acknowledged.
func (s *stage) gap(turn int, pause time.Duration, registered bool) (time.Duration, []error) {
	s.t.Helper()
	from, to := s.doors[turn%2], s.doors[(turn+1)%2]
	stop := s.writing()
	pass(600 * time.Millisecond) // the driver's monitor streams
	from.Cut()
	if registered {
		s.Catalog.Remove(from.Instance("node", nil))
	}
	pass(pause)
	opened := time.Now()
	to.Open(s.t)
	if registered {
		s.Catalog.Add(to.Instance("node", nil))
	}
	pass(900 * time.Millisecond)
	acknowledged, failed := stop()
	slices.SortFunc(acknowledged, time.Time.Compare)
	i, _ := slices.BinarySearchFunc(acknowledged, opened, time.Time.Compare)
	if i == len(acknowledged) {
		return time.Hour, failed
	}
	return acknowledged[i].Sub(opened), failed
}

func TestAMovedRoleCostsNoWriteAndTheCatalogNeedNotKnow(t *testing.T) {
	s := newStage(t)
	s.connect(s.leading)
	s.doors[0].Open(t)
	for turn := range 4 {
		took, failed := s.gap(turn, 120*time.Millisecond, false)
		if len(failed) > 0 {
			t.Errorf("turn %d: %d writes failed, for example: %v", turn, len(failed), failed[0])
		}
		t.Logf("turn %d: first acknowledgement %v after the door opened", turn, took)
		if took == time.Hour {
			t.Errorf("turn %d: no acknowledgement within 900 ms", turn)
		}
	}
	r := s.upstream.Report()
	if len(r.Switches) != 4 || r.Held != 0 || r.Epoch != 1 {
		t.Errorf("report: %+v", r)
	}
	for _, step := range r.Switches {
		if step.Sentinels == 0 || step.SentinelReset.After(step.RestReset) || step.FirstReleased.Before(step.Lost) || step.To == step.From {
			t.Errorf("switch: %+v", step)
		}
	}
}

// TestALeaderThatFallsSilentIsCutWhenAnotherAnswers: the old door stays open and
// its mongod is frozen, so that no connection ends by itself. A hello of another
// mongod with a later term is the only evidence.
func TestALeaderThatFallsSilentIsCutWhenAnotherAnswers(t *testing.T) {
	s, other := newStage(t), newStage(t)
	s.doors[1] = s.Door("mongo-primary", other.set.Members[0].Address)
	command := func(d bson.D) {
		client := other.dial(other.set.Members[0].Address)
		if err := client.Database("admin").RunCommand(t.Context(), d).Err(); err != nil {
			t.Fatal(err)
		}
	}
	command(bson.D{{Key: "replSetStepDown", Value: 1}, {Key: "force", Value: true}})
	mongotest.Wait(t, 20*time.Second, "the other set has a later term", func(ctx context.Context) error {
		client := other.dial(other.set.Members[0].Address)
		_, err := client.Database("t").Collection("ready").InsertOne(ctx, bson.D{})
		return err
	})
	s.connect(s.leading, func(o *options.ClientOptions) {
		o.SetAuth(options.Credential{AuthSource: "local", Username: "__system", Password: s.set.Key(t)})
	})
	s.doors[0].Open(t)
	if _, err := s.client.Database("t").Collection("x").InsertOne(t.Context(), bson.D{}); err != nil {
		t.Fatal(err)
	}
	s.set.Members[0].Signal(t, syscall.SIGSTOP)
	t.Cleanup(func() { s.set.Members[0].Signal(t, syscall.SIGCONT) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		// The other set has another key: it does not matter how it ends.
		_, _ = s.client.Database("t").Collection("x").InsertOne(ctx, bson.D{})
	}()
	pass(400 * time.Millisecond)
	if r := s.upstream.Report(); len(r.Switches) != 0 {
		t.Errorf("cut although nobody else leads: %+v", r.Switches)
	}
	s.doors[1].Open(t)
	began := time.Now()
	mongotest.Wait(t, 5*time.Second, "the silent one is left", func(context.Context) error {
		if r := s.upstream.Report(); r.Epoch < 2 || s.doors[0].Connections() > 0 {
			return context.DeadlineExceeded
		}
		return nil
	})
	t.Logf("left %v after another answered", time.Since(began))
	<-done
}

// BenchmarkSwitch shows what each part of the upstream is worth to the real
// driver: ms from the opening of the next door to the first acknowledgement.
func BenchmarkSwitch(b *testing.B) {
	for _, mode := range []string{"plain", "held", "sentinels"} {
		b.Run(mode, func(b *testing.B) {
			s := newStage(b)
			s.connect(func(cfg *mesh.UpstreamConfig) {
				if mode != "plain" {
					s.leading(cfg)
				}
				if mode == "held" {
					cfg.Protocol = nil
				}
			})
			s.doors[0].Open(b)
			s.Catalog.Add(s.doors[0].Instance("node", nil))
			var gaps []time.Duration
			errors := 0
			for turn := range b.N {
				took, failed := s.gap(turn, 120*time.Millisecond, true)
				gaps = append(gaps, took)
				errors += len(failed)
			}
			slices.Sort(gaps)
			ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
			b.ReportMetric(ms(gaps[len(gaps)/2]), "ms-median")
			b.ReportMetric(ms(gaps[len(gaps)-1]), "ms-max")
			b.ReportMetric(float64(errors), "errors")
		})
	}
}
