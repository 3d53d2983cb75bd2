// Package replset brings a replica set into being, once: the first member is
// initiated alone, which elects it at once, then the others are added one by
// one. Asking all of them at the beginning would cost an election time-out.
//
// Any number of agents may try; a lock in Consul lets one work, and only the one
// whose member is the first in the list does more than look. A set that was
// completed once is left alone for ever, so that whoever changes its
// configuration by hand is not overruled.
package replset

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"sluice/mongo-agent/mongod"
)

const (
	commandTimeout = 5 * time.Second
	askTimeout     = 500 * time.Millisecond
	pauseMin       = 20 * time.Millisecond
	pauseMax       = time.Second
)

// Store is where agents agree on who works and on what was done.
type Store interface {
	// WithLock runs fn while it holds the lock; fn's context ends when the lock
	// is lost.
	WithLock(ctx context.Context, key string, fn func(ctx context.Context) error) error
	KVGet(ctx context.Context, key string) (value []byte, found bool, err error)
	KVPut(ctx context.Context, key string, value []byte) error
}

// Config describes the set.
type Config struct {
	// Set is the set's name.
	Set string
	// Mongod is where the own member is reached; its name in the set is
	// Members[0].
	Mongod string
	// Members are those that the set is to have, the initiator's first.
	Members []Member
	// Timing is what the set is initiated with.
	Timing Timing
	Key    mongod.Secret
	Store  Store
	Logger *slog.Logger
}

// LockKey is the key of the lock, and DoneKey that of the mark which says that
// the set was completed.
func LockKey(set string) string { return "sluice/mongo/" + set + "/init" }

// DoneKey is the key of the mark that the set was completed.
func DoneKey(set string) string { return "sluice/mongo/" + set + "/initiated" }

// Bring initiates and extends the set and returns when it is complete, was
// complete before, or ctx has ended. It must run in the agent of the first
// member only.
func Bring(ctx context.Context, cfg Config) error {
	last := ""
	pause := pauseMin
	for {
		err := cfg.Store.WithLock(ctx, LockKey(cfg.Set), func(ctx context.Context) error { return bring(ctx, cfg) })
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err.Error() != last {
			cfg.Logger.Warn("replica set is not complete yet", "set", cfg.Set, "err", err)
			last = err.Error()
		}
		if err := sleep(ctx, &pause); err != nil {
			return err
		}
	}
}

func bring(ctx context.Context, cfg Config) error {
	own, err := mongod.System(cfg.Mongod, cfg.Key)
	if err != nil {
		return err
	}
	defer mongod.Close(own)
	s, err := look(ctx, cfg, own)
	if err != nil {
		return err
	}
	what, err := decide(s)
	if err != nil || what == leave {
		return err
	}
	started := time.Now()
	if what == initiate {
		if err := start(ctx, cfg, own); err != nil {
			return err
		}
	}
	for _, m := range cfg.Members[1:] {
		if err := cfg.add(ctx, own); err != nil {
			return fmt.Errorf("extend the set up to %s: %w", m.Address, err)
		}
	}
	if err := cfg.voting(ctx, own); err != nil {
		return err
	}
	if err := cfg.Store.KVPut(ctx, DoneKey(cfg.Set), []byte("complete")); err != nil {
		return fmt.Errorf("note that the set is complete: %w", err)
	}
	cfg.Logger.Info("replica set is complete", "set", cfg.Set, "members", len(cfg.Members), "took", time.Since(started))
	return nil
}

func look(ctx context.Context, cfg Config, own *mongo.Client) (situation, error) {
	var s situation
	_, err := configuration(ctx, own)
	switch {
	case err == nil:
		s.Configured = true
	case !mongod.HasCode(err, mongod.CodeNotYetInitialized):
		return s, err
	}
	if _, s.Finished, err = cfg.Store.KVGet(ctx, DoneKey(cfg.Set)); err != nil {
		return s, fmt.Errorf("ask whether the set was completed before: %w", err)
	}
	if !s.Configured {
		s.Peers = ask(ctx, cfg.Members[1:])
	}
	return s, nil
}

func ask(ctx context.Context, members []Member) []peer {
	peers := make([]peer, len(members))
	var group sync.WaitGroup
	for i, m := range members {
		group.Go(func() {
			peers[i].Address = m.Address
			peers[i].Set, peers[i].Err = membership(ctx, m.Address)
		})
	}
	group.Wait()
	return peers
}

// membership returns the set that a member belongs to. A relay accepts for a
// member that is away, so nothing but an answer counts.
func membership(ctx context.Context, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	// The driver would wait out a refused port; a fresh set must not.
	if err := mongod.Reachable(ctx, address); err != nil {
		return "", err
	}
	client, err := mongod.Anonymous(address)
	if err != nil {
		return "", err
	}
	defer mongod.Close(client)
	var reply struct {
		Set string `bson:"setName"`
	}
	err = mongod.Admin(ctx, client, bson.D{{Key: "hello", Value: 1}}, &reply)
	return reply.Set, err
}

func start(ctx context.Context, cfg Config, own *mongo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	err := mongod.Admin(ctx, own, bson.D{{Key: "replSetInitiate", Value: first(cfg.Set, cfg.Members[0], cfg.Timing)}}, nil)
	if err != nil && !mongod.HasCode(err, mongod.CodeAlreadyInitialized) {
		return fmt.Errorf("initiate the set with %s: %w", cfg.Members[0].Address, err)
	}
	return nil
}

// add adds one missing member, if there is any, and repeats until the set takes
// it: right after an election or another reconfiguration it does not.
func (cfg Config) add(ctx context.Context, own *mongo.Client) error {
	return cfg.repeat(ctx, "member is not added yet", func() error { return cfg.tryAdd(ctx, own) })
}

// voting waits until every member votes. A new member does not until it has
// copied the data; before, the set survives less than it seems to.
func (cfg Config) voting(ctx context.Context, own *mongo.Client) error {
	return cfg.repeat(ctx, "not every member votes yet", func() error {
		voting, err := votes(ctx, own)
		if err == nil && voting < len(cfg.Members) {
			err = fmt.Errorf("%d of %d members vote", voting, len(cfg.Members))
		}
		return err
	})
}

// votes returns how many members vote, as a member sees it.
func votes(ctx context.Context, client *mongo.Client) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var status struct {
		Voting int `bson:"votingMembersCount"`
	}
	err := mongod.Admin(ctx, client, bson.D{{Key: "replSetGetStatus", Value: 1}}, &status)
	return status.Voting, err
}

// repeat does something until it succeeds or ctx ends, and logs each new reason
// why it did not.
func (cfg Config) repeat(ctx context.Context, message string, try func() error) error {
	pause := pauseMin
	last := ""
	for {
		err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		if err.Error() != last {
			cfg.Logger.Debug(message, "set", cfg.Set, "err", err)
			last = err.Error()
		}
		if err := sleep(ctx, &pause); err != nil {
			return err
		}
	}
}

func (cfg Config) tryAdd(ctx context.Context, own *mongo.Client) error {
	_, err := cfg.reshape(ctx, own, false)
	return err
}

// reshape makes the next change on the way to cfg.Members and returns it.
func (cfg Config) reshape(ctx context.Context, own *mongo.Client, prune bool) (change, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	primary, release, err := cfg.primary(ctx, own)
	if err != nil {
		return change{}, err
	}
	defer release()
	config, err := configuration(ctx, primary)
	if err != nil {
		return change{}, err
	}
	step, err := next(config, cfg.Members, prune)
	if err != nil || step.empty() {
		return step, err
	}
	if step.added != "" {
		if _, err := membership(ctx, step.added); err != nil {
			return change{}, fmt.Errorf("wait for member %s: %w", step.added, err)
		}
	}
	if err := mongod.Admin(ctx, primary, bson.D{{Key: "replSetReconfig", Value: step.config}}, nil); err != nil {
		return change{}, fmt.Errorf("add %q, remove %q, give a vote to %q: %w", step.added, step.removed, step.revoted, err)
	}
	cfg.Logger.Info("the replica set has other members", "set", cfg.Set, "added", step.added, "removed", step.removed, "votes_again", step.revoted)
	return step, nil
}

// Reshape makes one change on the way to a set of exactly cfg.Members, and says what
// is still to be done; "" means that the set has them all, each with its vote. Call it
// again until then. It may be called at any member, and leaves the rest of the
// configuration as it is.
func Reshape(ctx context.Context, cfg Config) (pending string, err error) {
	own, err := mongod.System(cfg.Mongod, cfg.Key)
	if err != nil {
		return "", err
	}
	defer mongod.Close(own)
	step, err := cfg.reshape(ctx, own, true)
	switch {
	case err != nil:
		return "", err
	case step.added != "":
		return step.added + " copies the data", nil
	case step.removed != "":
		return step.removed + " was removed", nil
	case step.revoted != "":
		return step.revoted + " has its vote back", nil
	}
	if voting, err := votes(ctx, own); err != nil || voting < len(cfg.Members) {
		return fmt.Sprintf("%d of %d members vote", voting, len(cfg.Members)), err
	}
	return "", nil
}

// Force makes voters the only members that vote, without asking a majority: for a set
// that has lost it for good (MongoDB manual, "Reconfigure a Replica Set with
// Unavailable Members"). What only the others have acknowledged is lost with that. The
// own member must be a voter. Afterwards the voters elect a primary.
func Force(ctx context.Context, cfg Config, voters []string) error {
	own, err := mongod.System(cfg.Mongod, cfg.Key)
	if err != nil {
		return err
	}
	defer mongod.Close(own)
	config, err := configuration(ctx, own)
	if err != nil {
		return err
	}
	if config, err = forced(config, voters); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	err = mongod.Admin(ctx, own, bson.D{{Key: "replSetReconfig", Value: config}, {Key: "force", Value: true}}, nil)
	if err != nil {
		return fmt.Errorf("force the configuration: %w", err)
	}
	cfg.Logger.Warn("the set's configuration was forced", "set", cfg.Set, "voters", voters)
	return nil
}

// primary returns a client of the set's primary, which need not be the own
// member once there are others.
func (cfg Config) primary(ctx context.Context, own *mongo.Client) (*mongo.Client, func(), error) {
	var reply struct {
		Writable bool   `bson:"isWritablePrimary"`
		Primary  string `bson:"primary"`
		Me       string `bson:"me"`
	}
	if err := mongod.Admin(ctx, own, bson.D{{Key: "hello", Value: 1}}, &reply); err != nil {
		return nil, nil, err
	}
	switch {
	case reply.Writable:
		return own, func() {}, nil
	case reply.Primary == "" || reply.Primary == reply.Me:
		return nil, nil, errors.New("the set has no writable primary")
	}
	client, err := mongod.System(reply.Primary, cfg.Key)
	if err != nil {
		return nil, nil, err
	}
	return client, func() { mongod.Close(client) }, nil
}

func configuration(ctx context.Context, client *mongo.Client) (bson.D, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var reply struct {
		Config bson.D `bson:"config"`
	}
	if err := mongod.Admin(ctx, client, bson.D{{Key: "replSetGetConfig", Value: 1}}, &reply); err != nil {
		return nil, fmt.Errorf("ask for the set's configuration: %w", err)
	}
	return reply.Config, nil
}

// sleep waits for *pause and doubles it, up to pauseMax.
func sleep(ctx context.Context, pause *time.Duration) error {
	timer := time.NewTimer(*pause)
	defer timer.Stop()
	*pause = min(2**pause, pauseMax)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
