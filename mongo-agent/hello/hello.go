// Package hello follows the role of one mongod by what it says about itself.
//
// Two connections, both anonymous. On the first the follower asks hello in a
// form that mongod answers when something changes (topologyVersion and
// maxAwaitTimeMS; server-monitoring specification, "streaming protocol"), so a
// change is known one round trip after it happened. Silence on that connection
// means nothing, so on the second one a plain hello must be answered within a
// deadline, again and again.
package hello

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"sluice/mongo-agent/mongod"
	"sluice/mongo-agent/role"
)

// Defaults of Config. 700 ms gave no false alarm with two CPU hogs per core, but
// did when the disk was slow too, and a false alarm cuts connections. A frozen
// mongod is rare; whoever must know of one sooner reads its process state.
const (
	DefaultAwait         = 5 * time.Second
	DefaultProbeInterval = 200 * time.Millisecond
	DefaultProbeTimeout  = 2 * time.Second
)

const (
	// awaitSlack is how much later than Await the awaited answer may come. The
	// probe finds a frozen mongod long before.
	awaitSlack = 2 * time.Second
	backoffMin = 20 * time.Millisecond
	backoffMax = 250 * time.Millisecond
)

// Event is one observation: an answer, or a failure to answer.
type Event struct {
	// At is when it was observed.
	At time.Time
	// Reply is nil for a failure.
	Reply *role.Reply
	// Loss and Reason describe a failure.
	Loss   role.Loss
	Reason string
}

// Config says whom to follow.
type Config struct {
	// Address is mongod's "host:port".
	Address string
	// Await is how long mongod may hold an answer back; 0 is DefaultAwait.
	Await time.Duration
	// ProbeInterval is the pause between an answered probe and the next, and
	// ProbeTimeout its deadline; 0 is the default.
	ProbeInterval, ProbeTimeout time.Duration
	// Dialer is the way to mongod; nil is TCP.
	Dialer options.ContextDialer
	// Logger receives one line per new kind of failure; required.
	Logger *slog.Logger
	// Now tells the time; nil is time.Now.
	Now func() time.Time
}

// Follower follows one mongod.
type Follower struct {
	cfg  Config
	kick chan struct{} // holds one request to ask now
}

// New returns a follower; nothing happens before Run.
func New(cfg Config) *Follower {
	cfg.Await = orDefault(cfg.Await, DefaultAwait)
	cfg.ProbeInterval = orDefault(cfg.ProbeInterval, DefaultProbeInterval)
	cfg.ProbeTimeout = orDefault(cfg.ProbeTimeout, DefaultProbeTimeout)
	if cfg.Dialer == nil {
		cfg.Dialer = new(net.Dialer)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Follower{cfg: cfg, kick: make(chan struct{}, 1)}
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}

// Run follows until ctx ends and sends every observation to events, which
// somebody must receive from. The two connections' observations are each in
// order; between them, role.Machine sorts out which is newer.
func (f *Follower) Run(ctx context.Context, events chan<- Event) error {
	var group sync.WaitGroup
	group.Go(func() { f.loop(ctx, "await", f.await, events) })
	group.Go(func() { f.loop(ctx, "probe", f.probe, events) })
	group.Wait()
	return ctx.Err()
}

// Ask makes the probe ask now instead of at its next tick, for somebody who has
// a reason to think that something changed. It never blocks: calls while a
// request is waiting are one request. The hello is sent after the call, so its
// answer is newer than the reason. Safe for concurrent use.
func (f *Follower) Ask() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// session asks over one connection until it fails; it never returns nil.
type session func(ctx context.Context, client *mongo.Client, events chan<- Event) error

func (f *Follower) loop(ctx context.Context, name string, run session, events chan<- Event) {
	pause := backoffMin
	last := ""
	for ctx.Err() == nil {
		started := f.cfg.Now()
		client, err := f.connect(ctx)
		if err == nil {
			err = run(ctx, client, events)
		}
		if ctx.Err() == nil {
			loss, reason := classify(err)
			f.emit(ctx, events, Event{At: f.cfg.Now(), Loss: loss, Reason: reason})
			if reason != last {
				f.cfg.Logger.Warn("mongod does not answer", "connection", name, "reason", reason)
				last = reason
			}
		}
		// After the news: a goodbye to a mongod that shuts down takes its time.
		if client != nil {
			mongod.Close(client)
		}
		if f.cfg.Now().Sub(started) > backoffMax {
			pause, last = backoffMin, ""
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, backoffMax)
	}
}

// connect returns a client for one session. Asking the port first keeps
// "refused" and "silent" apart: the driver would wrap both in the same
// time-out.
func (f *Follower) connect(ctx context.Context) (*mongo.Client, error) {
	dial, cancel := context.WithTimeout(ctx, f.cfg.ProbeTimeout)
	defer cancel()
	if err := mongod.ReachableVia(dial, f.cfg.Dialer, f.cfg.Address); err != nil {
		return nil, err
	}
	return mongod.AnonymousVia(f.cfg.Dialer, f.cfg.Address)
}

func (f *Follower) await(ctx context.Context, client *mongo.Client, events chan<- Event) error {
	command, timeout := bson.D{{Key: "hello", Value: 1}}, f.cfg.ProbeTimeout
	for {
		version, err := f.ask(ctx, client, command, timeout, events)
		if err != nil {
			return err
		}
		command = bson.D{
			{Key: "hello", Value: 1},
			{Key: "topologyVersion", Value: version},
			{Key: "maxAwaitTimeMS", Value: f.cfg.Await.Milliseconds()},
		}
		timeout = f.cfg.Await + awaitSlack
	}
}

func (f *Follower) probe(ctx context.Context, client *mongo.Client, events chan<- Event) error {
	ticker := time.NewTicker(f.cfg.ProbeInterval)
	defer ticker.Stop()
	for {
		if _, err := f.ask(ctx, client, bson.D{{Key: "hello", Value: 1}}, f.cfg.ProbeTimeout, events); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		case <-f.kick:
			ticker.Reset(f.cfg.ProbeInterval)
		}
	}
}

// ask sends one hello, emits its answer and returns its topologyVersion.
func (f *Follower) ask(ctx context.Context, client *mongo.Client, command bson.D, timeout time.Duration, events chan<- Event) (topologyVersion, error) {
	// Not a deadline: the driver would hand it to mongod as maxTimeMS, and then
	// the end of an uneventful wait is an error instead of an answer.
	bounded, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(timeout, func() { cancel(context.DeadlineExceeded) })
	defer timer.Stop()
	asked := f.cfg.Now()
	var a answer
	if err := mongod.Admin(bounded, client, command, &a); err != nil {
		if cause := context.Cause(bounded); cause != nil {
			return topologyVersion{}, fmt.Errorf("no answer within %v: %w", timeout, cause)
		}
		return topologyVersion{}, err
	}
	if a.TopologyVersion.ProcessID.IsZero() {
		return topologyVersion{}, errors.New("its hello has no topologyVersion: mongod 5.0 or newer is needed")
	}
	reply := a.reply(asked)
	f.emit(ctx, events, Event{At: f.cfg.Now(), Reply: &reply})
	return a.TopologyVersion, nil
}

func (f *Follower) emit(ctx context.Context, events chan<- Event, e Event) {
	select {
	case events <- e:
	case <-ctx.Done():
	}
}

func classify(err error) (role.Loss, string) {
	if mongo.IsTimeout(err) || errors.Is(err, context.DeadlineExceeded) {
		return role.Silent, err.Error()
	}
	return role.Ended, err.Error()
}

type topologyVersion struct {
	ProcessID bson.ObjectID `bson:"processId"`
	Counter   int64         `bson:"counter"`
}

type answer struct {
	Writable   bool          `bson:"isWritablePrimary"`
	Secondary  bool          `bson:"secondary"`
	Set        string        `bson:"setName"`
	Me         string        `bson:"me"`
	Primary    string        `bson:"primary"`
	Info       string        `bson:"info"`
	Hosts      []string      `bson:"hosts"`
	ElectionID bson.ObjectID `bson:"electionId"`
	LastWrite  struct {
		OpTime struct {
			Term      int64          `bson:"t"`
			Timestamp bson.Timestamp `bson:"ts"`
		} `bson:"opTime"`
	} `bson:"lastWrite"`
	TopologyVersion topologyVersion `bson:"topologyVersion"`
}

func (a answer) reply(asked time.Time) role.Reply {
	r := role.Reply{
		Asked:    asked,
		Writable: a.Writable, Secondary: a.Secondary,
		Set: a.Set, Me: a.Me, Primary: a.Primary, Info: a.Info, Hosts: a.Hosts,
		Term:    max(0, a.LastWrite.OpTime.Term), // -1 before the first election
		OpTime:  role.OpTimeOf(max(0, a.LastWrite.OpTime.Term), a.LastWrite.OpTime.Timestamp.T, a.LastWrite.OpTime.Timestamp.I),
		Process: a.TopologyVersion.ProcessID.Hex(), Counter: a.TopologyVersion.Counter,
	}
	if term, ok := electionTerm(a.ElectionID); ok && a.Writable {
		r.Term = term
	}
	return r
}

// electionTerm returns the term in an electionId: 0x7fffffff, then the term as
// eight bytes, big-endian (mongo, OID::fromTerm).
func electionTerm(id bson.ObjectID) (int64, bool) {
	if binary.BigEndian.Uint32(id[:4]) != 0x7fffffff {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(id[4:])), true
}
