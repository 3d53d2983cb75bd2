package client

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"sluice/mesh"
)

// The blog's database, with a collection of the ledgers' own.
const (
	database   = "blog"
	collection = "ledger"
)

// How web repeats what may succeed the next time.
const (
	maxAttempts = 24
	firstPause  = 20 * time.Millisecond
	maxPause    = 400 * time.Millisecond
	lookTimeout = 5 * time.Second
)

// MongoConfig says which replica set to write to, and how.
type MongoConfig struct {
	// Options lead to the set: PortOptions or MembersOptions.
	Options *options.ClientOptions
	// User and Password authenticate with SCRAM against the blog's database.
	User, Password string
	// WriteConcern is "majority", a number of members, or the name of a mode of the set.
	WriteConcern string
	// ReadConcern is "local", "majority" or "linearizable", for Look.
	ReadConcern string
	// Timeout bounds one write, its repetitions included.
	Timeout time.Duration
}

// Mongo is a Store in a replica set. It may be used by several goroutines at
// once; Close ends it.
type Mongo struct {
	client  *mongo.Client
	entries *mongo.Collection
	timeout time.Duration
}

// DefaultTimeout is web's own bound of one write.
const DefaultTimeout = 15 * time.Second

// PortOptions lead through web's upstream listener, with web's own options: one
// address with a moving target behind it, so topology discovery is off, and the
// driver waits for as long as the listener holds it.
func PortOptions(address string) *options.ClientOptions {
	return options.Client().ApplyURI("mongodb://" + address + "/?directConnection=true").
		SetConnectTimeout(mesh.DefaultHold + time.Second).
		SetHeartbeatInterval(500 * time.Millisecond)
}

// OpenMongo prepares a store; it does not wait for the set.
func OpenMongo(cfg MongoConfig) (*Mongo, error) {
	concern, err := parseWriteConcern(cfg.WriteConcern)
	if err != nil {
		return nil, err
	}
	read, err := parseReadConcern(cfg.ReadConcern)
	if err != nil {
		return nil, err
	}
	client, err := mongo.Connect(cfg.Options.
		SetAppName("ledger").
		SetAuth(options.Credential{AuthSource: database, Username: cfg.User, Password: cfg.Password}).
		SetWriteConcern(concern).
		SetReadConcern(read).
		SetReadPreference(readpref.Primary()).
		SetRetryWrites(true).
		SetTimeout(cfg.Timeout).
		SetServerSelectionTimeout(cfg.Timeout).
		SetMonitor(countCommands()))
	if err != nil {
		return nil, fmt.Errorf("open the replica set: %w", err)
	}
	return &Mongo{client: client, entries: client.Database(database).Collection(collection), timeout: cfg.Timeout}, nil
}

// Close ends the store and its connections, within half a second.
func (m *Mongo) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	return m.client.Disconnect(ctx)
}

func parseWriteConcern(text string) (*writeconcern.WriteConcern, error) {
	if text == "majority" {
		return writeconcern.Majority(), nil
	}
	members, err := strconv.Atoi(text)
	switch {
	case err != nil && isName(text):
		return writeconcern.Custom(text), nil
	case err != nil || members < 1 || members > 50:
		return nil, fmt.Errorf("write concern %q: want majority, a number of members, or the name of a mode that the set has, such as multiDC", text)
	}
	return &writeconcern.WriteConcern{W: members}, nil
}

// isName reports whether text may name a mode of a set.
func isName(text string) bool {
	return text != "" && len(text) <= 32 && strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

func parseReadConcern(text string) (*readconcern.ReadConcern, error) {
	if !slices.Contains([]string{"local", "majority", "linearizable"}, text) {
		return nil, fmt.Errorf("read concern %q: want local, majority or linearizable", text)
	}
	return &readconcern.ReadConcern{Level: text}, nil
}

// commandsKey is the key of the counter that a write's context carries.
type commandsKey struct{}

// countCommands counts the inserts that were really sent, because a write that
// was never sent is refused and no other is.
func countCommands() *event.CommandMonitor {
	return &event.CommandMonitor{Started: func(ctx context.Context, started *event.CommandStartedEvent) {
		if counter, ok := ctx.Value(commandsKey{}).(*atomic.Int64); ok && started.CommandName == "insert" {
			counter.Add(1)
		}
	}}
}

// Write inserts the document and repeats that as web does.
func (m *Mongo) Write(ctx context.Context, document string) Answer {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	var commands atomic.Int64
	ctx = context.WithValue(ctx, commandsKey{}, &commands)
	possible := false
	pause := firstPause
	for attempt := 1; ; attempt++ {
		before := commands.Load()
		_, err := m.entries.InsertOne(ctx, bson.D{{Key: "_id", Value: document}})
		answer := Answer{Kind: settled(err), Attempts: int(commands.Load())}
		if answer.Kind != 0 {
			return answer
		}
		possible = possible || !certainlyNot(err, commands.Load()-before)
		if attempt == maxAttempts || !transient(err) || !wait(ctx, pause) {
			answer.Kind, answer.Text = giveUp(possible), describe(err)
			return answer
		}
		pause = min(2*pause, maxPause)
	}
}

// certainlyNot reports whether the document is certainly not written: no command
// was sent, or the one that was sent met a member that takes no writes or no
// such user.
func certainlyNot(err error, commands int64) bool {
	if commands == 0 {
		return true
	}
	var answer mongo.CommandError
	if commands > 1 || !errors.As(err, &answer) || answer.HasErrorLabel("NetworkError") {
		return false
	}
	// Unauthorized, AuthenticationFailed, NotWritablePrimary, NotPrimaryNoSecondaryOk.
	return slices.Contains([]int32{13, 18, 10107, 13435}, answer.Code)
}

// transient is web's rule for what may succeed when it is repeated.
func transient(err error) bool {
	var answer mongo.ServerError
	if !errors.As(err, &answer) {
		return true // it did not get as far as an answer
	}
	if answer.HasErrorLabel("RetryableWriteError") || answer.HasErrorLabel("NetworkError") {
		return true
	}
	// NotWritablePrimary, NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary,
	// PrimarySteppedDown, InterruptedDueToReplStateChange, ShutdownInProgress,
	// InterruptedAtShutdown.
	return slices.ContainsFunc([]int{10107, 13435, 13436, 189, 11602, 91, 11600}, answer.HasErrorCode)
}

// Look reads the document, with the store's read concern.
func (m *Mongo) Look(ctx context.Context, document string) string {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err := m.entries.FindOne(ctx, bson.D{{Key: "_id", Value: document}}).Err()
	return looked(err)
}

// wait waits for d; false means that ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// passing are the parts of an error that differ each time it happens.
func passing() *regexp.Regexp { return regexp.MustCompile(`\[-?\d+\]|\d+(\.\d+)?(ns|µs|ms|s)\b`) }

// longestError bounds an error in the ledger, in bytes.
const longestError = 300

// describe is an error as the ledger keeps it: the same failure has the same
// text each time.
func describe(err error) string {
	text := passing().ReplaceAllString(err.Error(), "…")
	if len(text) > longestError {
		text = strings.ToValidUTF8(text[:longestError], "")
	}
	return text
}

// CheckConcerns returns what is wrong with the words for the two concerns.
func CheckConcerns(write, read string) error {
	_, first := parseWriteConcern(write)
	_, second := parseReadConcern(read)
	return errors.Join(first, second)
}
