package client

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"sluice/internal/mongotest"
	"sluice/ledger"
)

func TestAnErrorIsARefusalOnlyIfTheDocumentCannotBeThere(t *testing.T) {
	code := func(code int32, labels ...string) error { return mongo.CommandError{Code: code, Labels: labels} }
	for _, c := range []struct {
		name     string
		err      error
		commands int64
		want     bool
	}{
		{"no way to a server", errors.New("server selection timeout"), 0, true},
		{"the connection broke", errors.New("EOF"), 1, false},
		{"not the primary", code(10107, "RetryableWriteError"), 1, true},
		{"not the primary, the second time", code(10107, "RetryableWriteError"), 2, false},
		{"no such user", code(18), 1, true},
		{"stepped down while it was written", code(189, "RetryableWriteError"), 1, false},
		{"interrupted", code(11602, "RetryableWriteError"), 1, false},
		{"the network, with a code", code(10107, "NetworkError"), 1, false},
		{"a write concern that was not met", mongo.WriteException{WriteConcernError: &mongo.WriteConcernError{Code: 64}}, 1, false},
	} {
		if got := certainlyNot(c.err, c.commands); got != c.want {
			t.Errorf("%s: certainly not there is %t", c.name, got)
		}
	}
}

func TestADuplicateKeyWithoutItsWriteConcernIsStillOne(t *testing.T) {
	err := mongo.WriteException{
		WriteErrors:       mongo.WriteErrors{{Code: 11000}},
		WriteConcernError: &mongo.WriteConcernError{Code: 189},
	}
	if got := settled(err); got != ledger.Duplicate {
		t.Errorf("kind %q", got)
	}
}

// A ledger that is written in another way than web writes says nothing of web.
func TestALedgerIsWrittenWithTheOptionsThatWebHas(t *testing.T) {
	source, err := os.ReadFile("../../web/blog/store.go")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(source)), " ")
	for _, want := range []string{
		"directConnection=true", "SetRetryWrites(true)", "SetWriteConcern(writeconcern.Majority())",
		"SetTimeout(WriteTimeout)", "SetServerSelectionTimeout(WriteTimeout)", "WriteTimeout = 15 * time.Second",
		"SetConnectTimeout(connect)", "connectTimeout = mesh.DefaultHold + time.Second",
		"SetHeartbeatInterval(500 * time.Millisecond)",
		"maxAttempts = 24", "firstPause = 20 * time.Millisecond", "maxPause = 400 * time.Millisecond",
		"[]int{10107, 13435, 13436, 189, 11602, 91, 11600}",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("web has no %q any more: change the ledger's options, and this list", want)
		}
	}
}

func TestTheSameFailureHasTheSameText(t *testing.T) {
	first := describe(errors.New("connection(127.0.0.1:5501[-42]) closed after 12.5ms"))
	second := describe(errors.New("connection(127.0.0.1:5501[-7]) closed after 3s"))
	if first != second {
		t.Errorf("%q and %q", first, second)
	}
	if long := describe(errors.New(string(make([]byte, 5000)))); len(long) > longestError {
		t.Errorf("%d bytes", len(long))
	}
}

func TestALedgerIsNotJudgedWhileItIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	file, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.NewWriter(file, ledger.Header{Run: "r", Started: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, ErrRunning) {
		t.Errorf("while it is written: %v", err)
	}
	if _, err := Create(path); err == nil {
		t.Error("a second run writes to the same file")
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// single is a replica set of one member, initiated, with the user web.
func single(t *testing.T) (*mongotest.Set, *Mongo) {
	t.Helper()
	set := mongotest.Start(t, mongotest.Config{Addresses: []string{mongotest.FreeAddress(t, "127.0.0.1")}})
	address := set.Members[0].Address
	system, err := mongo.Connect(options.Client().SetHosts([]string{address}).SetDirect(true).SetAuth(options.Credential{
		AuthMechanism: "SCRAM-SHA-256", AuthSource: "local", Username: "__system", Password: set.Key(t),
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		_ = system.Disconnect(ctx)
	})
	members := bson.A{bson.D{{Key: "_id", Value: 0}, {Key: "host", Value: address}}}
	if err := system.Database("admin").RunCommand(t.Context(), bson.D{
		{Key: "replSetInitiate", Value: bson.D{{Key: "_id", Value: set.Name}, {Key: "members", Value: members}}},
	}).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the user can be made", func() error {
		return system.Database(database).RunCommand(t.Context(), bson.D{
			{Key: "createUser", Value: "web"}, {Key: "pwd", Value: "secret"}, {Key: "roles", Value: bson.A{"readWrite"}},
		}).Err()
	})
	store, err := OpenMongo(MongoConfig{
		Options: PortOptions(address), User: "web", Password: "secret", WriteConcern: "majority", ReadConcern: "local", Timeout: 2 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return set, store
}

func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		<-ticker.C
	}
}

func TestARealSetTellsWhatWasWritten(t *testing.T) {
	set, store := single(t)
	header := ledger.Header{Run: "run", Started: time.Now()}
	for _, document := range []string{header.Document(0), header.Document(1), "run0/0", "other/0"} {
		if answer := store.Write(t.Context(), document); answer.Kind != ledger.Acknowledged || answer.Attempts != 1 {
			t.Fatalf("write %s: %+v", document, answer)
		}
	}
	if answer := store.Write(t.Context(), header.Document(0)); answer.Kind != ledger.Duplicate {
		t.Errorf("written again: %+v", answer)
	}
	if got := store.Look(t.Context(), header.Document(0)); got != ledger.Found {
		t.Errorf("look: %s", got)
	}
	if got := store.Look(t.Context(), header.Document(9)); got != ledger.Missing {
		t.Errorf("look for nothing: %s", got)
	}
	final := store.ReadBack(t.Context(), header)
	slices.Sort(final.Documents)
	if !final.Confirmed || !slices.Equal(final.Documents, []string{"run/0", "run/1"}) {
		t.Errorf("read back: %+v", final)
	}

	set.Members[0].Kill(t)
	answer := store.Write(t.Context(), header.Document(2))
	if answer.Kind != ledger.Refused && answer.Kind != ledger.Unknown || answer.Text == "" {
		t.Errorf("write to nobody: %+v", answer)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if final := store.ReadBack(ctx, header); final.Error == "" || final.Confirmed || final.Documents != nil {
		t.Errorf("read back from nobody: %+v", final)
	}
}
