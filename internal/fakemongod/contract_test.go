package fakemongod_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"sluice/internal/fakemongod"
	"sluice/internal/fakemongod/wire"
	"sluice/internal/mongotest"
	"sluice/mongo-agent/mongod"
)

// subject is a mongod under test.
type subject interface {
	Address() string
	Key() string
	// Freeze, Thaw, Terminate and Kill do what SIGSTOP, SIGCONT, SIGTERM and
	// SIGKILL do; Start starts it again. None waits for mongod to answer.
	Freeze(t *testing.T)
	Thaw(t *testing.T)
	Terminate(t *testing.T)
	Kill(t *testing.T)
	Start(t *testing.T)
}

// contract is what the fake and a real mongod have in common. alone returns one
// that is not initiated, second the secondary of two, whose primary is healthy.
func contract(t *testing.T, alone func(*testing.T) subject, second func(*testing.T) subject) {
	t.Run("alone", func(t *testing.T) {
		s := alone(t)
		t.Run("before initiation", func(t *testing.T) { beforeInitiation(t, s) })
		t.Run("strangers", func(t *testing.T) { strangers(t, s) })
		t.Run("wire", func(t *testing.T) { wireForms(t, s) })
		t.Run("refused awaits", func(t *testing.T) { refusedAwaits(t, s) })
		t.Run("initiation", func(t *testing.T) { initiation(t, s) })
		t.Run("await without news", func(t *testing.T) { awaitWithoutNews(t, s) })
		t.Run("writes", func(t *testing.T) { writes(t, s) })
		t.Run("step-down", func(t *testing.T) { stepDown(t, s) })
		t.Run("as secondary", func(t *testing.T) { asSecondary(t, s) })
		t.Run("exhaust", func(t *testing.T) { exhaust(t, s) })
		t.Run("frozen", func(t *testing.T) { frozen(t, s) })
		t.Run("shutdown", func(t *testing.T) { shutdown(t, s) })
		t.Run("restart", func(t *testing.T) { restart(t, s) })
	})
	t.Run("second of two", func(t *testing.T) { stepUp(t, second(t)) })
}

func TestFakeKeepsTheContractOfMongod(t *testing.T) {
	const key = "a key that everybody knows"
	contract(t,
		func(t *testing.T) subject {
			return fake{fakemongod.Start(t, fakemongod.Config{Key: key}), key}
		},
		func(t *testing.T) subject {
			address := mongotest.FreeAddress(t, "127.0.0.1")
			s := fakemongod.Start(t, fakemongod.Config{Key: key, Address: address, Hosts: []string{"127.0.0.1:1", address}})
			s.Change(func(m *fakemongod.Member) { m.Term, m.Primary, m.SyncSource = 1, "127.0.0.1:1", "127.0.0.1:1" })
			return fake{s, key}
		})
}

func TestMongodKeepsTheContract(t *testing.T) {
	contract(t,
		func(t *testing.T) subject {
			set := mongotest.Start(t, mongotest.Config{Addresses: []string{mongotest.FreeAddress(t, "127.0.0.1")}})
			return genuine{set.Members[0], set.Key(t)}
		},
		func(t *testing.T) subject {
			set := mongotest.Start(t, mongotest.Config{Addresses: []string{mongotest.FreeAddress(t, "127.0.0.1"), mongotest.FreeAddress(t, "127.0.0.1")}})
			first, second := genuine{set.Members[0], set.Key(t)}, genuine{set.Members[1], set.Key(t)}
			// Both must have learned of the election before anything is asked of them.
			must(t, first, initiate(set.Addresses()...))
			until(t, first, func(h answer) bool { return h.Writable })
			until(t, second, func(h answer) bool { return h.Secondary && h.Primary == first.Address() })
			return second
		})
}

type fake struct {
	server *fakemongod.Server
	key    string
}

func (f fake) Address() string      { return f.server.Address() }
func (f fake) Key() string          { return f.key }
func (f fake) Freeze(*testing.T)    { f.server.Freeze() }
func (f fake) Thaw(*testing.T)      { f.server.Thaw() }
func (f fake) Terminate(*testing.T) { f.server.Quiesce() }
func (f fake) Kill(*testing.T)      { f.server.Kill() }
func (f fake) Start(t *testing.T) {
	if err := f.server.Start(); err != nil {
		t.Fatal(err)
	}
}

type genuine struct {
	member *mongotest.Member
	key    string
}

func (g genuine) Address() string        { return g.member.Address }
func (g genuine) Key() string            { return g.key }
func (g genuine) Freeze(t *testing.T)    { g.member.Signal(t, stop) }
func (g genuine) Thaw(t *testing.T)      { g.member.Signal(t, cont) }
func (g genuine) Terminate(t *testing.T) { g.member.Signal(t, term) }
func (g genuine) Kill(t *testing.T)      { g.member.Kill(t) }
func (g genuine) Start(t *testing.T)     { g.member.Start(t); g.member.WaitListening(t) }

// answer is what the contract looks at.
type answer struct {
	OK         float64             `bson:"ok"`
	Code       int32               `bson:"code"`
	Writable   bool                `bson:"isWritablePrimary"`
	Secondary  bool                `bson:"secondary"`
	Info       string              `bson:"info"`
	Set        string              `bson:"setName"`
	Me         string              `bson:"me"`
	Primary    string              `bson:"primary"`
	Hosts      []string            `bson:"hosts"`
	ElectionID bson.ObjectID       `bson:"electionId"`
	Version    *fakemongod.Version `bson:"topologyVersion"`
	LastWrite  struct {
		OpTime   fakemongod.OpTime `bson:"opTime"`
		Majority fakemongod.OpTime `bson:"majorityOpTime"`
	} `bson:"lastWrite"`
	MaxWire int32 `bson:"maxWireVersion"`
	Session int32 `bson:"logicalSessionTimeoutMinutes"`
}

func (a answer) term() int64 { return int64(binary.BigEndian.Uint64(a.ElectionID[4:])) }

// wired is a connection that speaks the wire protocol without a driver.
type wired struct {
	t    *testing.T
	conn net.Conn
	last int32
}

func dial(t *testing.T, s subject) *wired {
	t.Helper()
	conn, err := net.DialTimeout("tcp", s.Address(), 5*time.Second)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &wired{t: t, conn: conn}
}

func document(t *testing.T, d bson.D) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(append(slices.Clone(d), bson.E{Key: "$db", Value: "admin"}))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (w *wired) send(flags wire.Flags, command bson.D) {
	w.t.Helper()
	w.last++
	message := wire.AppendMsg(nil, wire.Header{RequestID: w.last}, wire.Msg{Flags: flags, Body: document(w.t, command)})
	if _, err := w.conn.Write(message); err != nil {
		w.t.Fatalf("send: %v", err)
	}
}

// receive returns the next answer, or the error of waiting for it.
func (w *wired) receive(within time.Duration) (wire.Frame, wire.Msg, answer, error) {
	_ = w.conn.SetReadDeadline(time.Now().Add(within))
	f, err := wire.ReadFrame(w.conn, wire.MaxMessage)
	if err != nil {
		return f, wire.Msg{}, answer{}, err
	}
	m, err := wire.ParseMsg(f)
	if err != nil {
		return f, m, answer{}, err
	}
	var a answer
	return f, m, a, bson.Unmarshal(m.Body, &a)
}

// ask sends a command and returns its answer.
func (w *wired) ask(command bson.D) answer {
	w.t.Helper()
	w.send(0, command)
	f, m, a, err := w.receive(10 * time.Second)
	if err != nil {
		w.t.Fatalf("answer to %v: %v", command, err)
	}
	if f.ResponseTo != w.last || m.Flags != 0 {
		w.t.Errorf("answer to %v: for request %d with flags %#x, want %d without", command, f.ResponseTo, m.Flags, w.last)
	}
	return a
}

func plain() bson.D { return bson.D{{Key: "hello", Value: 1}} }

func awaited(v *fakemongod.Version, within time.Duration) bson.D {
	return bson.D{{Key: "hello", Value: 1}, {Key: "topologyVersion", Value: v}, {Key: "maxAwaitTimeMS", Value: within.Milliseconds()}}
}

func initiate(hosts ...string) bson.D {
	var members bson.A
	for i, host := range hosts {
		members = append(members, bson.D{{Key: "_id", Value: i}, {Key: "host", Value: host}})
	}
	return bson.D{{Key: "replSetInitiate", Value: bson.D{
		{Key: "_id", Value: "consuldemo"},
		{Key: "members", Value: members},
		{Key: "settings", Value: bson.D{{Key: "electionTimeoutMillis", Value: 1000}, {Key: "heartbeatIntervalMillis", Value: 500}}},
	}}}
}

// system runs a command as the internal user.
func system(t *testing.T, s subject, command bson.D) (bson.Raw, error) {
	t.Helper()
	client, err := mongod.System(s.Address(), mongod.NewSecret(s.Key()))
	if err != nil {
		t.Fatal(err)
	}
	defer mongod.Close(client)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var raw bson.Raw
	err = mongod.Admin(ctx, client, command, &raw)
	return raw, err
}

func must(t *testing.T, s subject, command bson.D) bson.Raw {
	t.Helper()
	raw, err := system(t, s, command)
	if err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	return raw
}

func wantCode(t *testing.T, s subject, code int, command bson.D) error {
	t.Helper()
	_, err := system(t, s, command)
	if !mongod.HasCode(err, code) {
		t.Errorf("%v: %v, want code %d", command, err, code)
	}
	return err
}

// until follows with awaited hellos until one satisfies a condition. The
// topologyVersions on the way must grow.
func until(t *testing.T, s subject, holds func(answer) bool) answer {
	t.Helper()
	w := dial(t, s)
	deadline := time.Now().Add(30 * time.Second)
	a := w.ask(plain())
	for !holds(a) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s; it says %+v", a)
		}
		next := w.ask(awaited(a.Version, 200*time.Millisecond))
		if next.Version == nil || next.Version.Process == a.Version.Process && next.Version.Counter < a.Version.Counter {
			t.Fatalf("topologyVersion %+v after %+v", next.Version, a.Version)
		}
		a = next
	}
	return a
}

func insert(id any) bson.D {
	return bson.D{
		{Key: "insert", Value: "contract"},
		{Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: id}}}},
		{Key: "writeConcern", Value: bson.D{{Key: "w", Value: "majority"}}},
	}
}

func beforeInitiation(t *testing.T, s subject) {
	a := dial(t, s).ask(plain())
	if a.OK != 1 || a.Writable || a.Secondary || a.Set != "" || a.Info != "Does not have a valid replica set config" {
		t.Errorf("hello: %+v", a)
	}
	if a.Version == nil || a.Version.Process.IsZero() || a.MaxWire < 13 || a.Session != 30 {
		t.Errorf("hello: %+v", a)
	}
	wantCode(t, s, 94, bson.D{{Key: "replSetGetStatus", Value: 1}})
	wantCode(t, s, 94, bson.D{{Key: "replSetGetConfig", Value: 1}})
	wantCode(t, s, 10107, insert(1))
}

func strangers(t *testing.T, s subject) {
	w := dial(t, s)
	for _, command := range []string{"getCmdLineOpts", "replSetStepUp", "replSetGetStatus", "replSetStepDown", "getParameter"} {
		if a := w.ask(bson.D{{Key: command, Value: 1}}); a.OK != 0 || a.Code != 13 {
			t.Errorf("%s without a login: %+v, want code 13", command, a)
		}
	}
	if a := w.ask(insert(1)); a.Code != 13 {
		t.Errorf("insert without a login: %+v, want code 13", a)
	}
	if a := w.ask(bson.D{{Key: "nonsense", Value: 1}}); a.Code != 59 {
		t.Errorf("an unknown command: %+v, want code 59", a)
	}
	if a := w.ask(bson.D{{Key: "ping", Value: 1}}); a.OK != 1 {
		t.Errorf("ping: %+v", a)
	}
	must(t, s, bson.D{{Key: "getCmdLineOpts", Value: 1}})
	raw := must(t, s, bson.D{{Key: "getParameter", Value: 1}, {Key: "enableLocalhostAuthBypass", Value: 1}})
	if bypass, ok := raw.Lookup("enableLocalhostAuthBypass").BooleanOK(); !ok || bypass {
		t.Errorf("getParameter: %v", raw)
	}
	client, err := mongod.System(s.Address(), mongod.NewSecret("a wrong key"))
	if err != nil {
		t.Fatal(err)
	}
	defer mongod.Close(client)
	if err := mongod.Admin(t.Context(), client, bson.D{{Key: "ping", Value: 1}}, nil); err == nil {
		t.Error("logged in with a wrong key")
	}
}

func wireForms(t *testing.T, s subject) {
	t.Run("the old hello of a driver", func(t *testing.T) {
		w := dial(t, s)
		raw, _ := bson.Marshal(bson.D{{Key: "isMaster", Value: 1}, {Key: "helloOk", Value: true}})
		query := wire.Query{Flags: 4, Collection: "admin.$cmd", Return: -1, Document: raw}
		if _, err := w.conn.Write(wire.AppendQuery(nil, wire.Header{RequestID: 7}, query)); err != nil {
			t.Fatal(err)
		}
		_ = w.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		f, err := wire.ReadFrame(w.conn, wire.MaxMessage)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := wire.ParseReply(f)
		if err != nil || len(reply.Documents) != 1 || f.ResponseTo != 7 {
			t.Fatalf("%+v, %v", reply, err)
		}
		if ok, _ := reply.Documents[0].Lookup("helloOk").BooleanOK(); !ok {
			t.Errorf("no helloOk in %v", reply.Documents[0])
		}
		if _, err := reply.Documents[0].LookupErr("ismaster"); err != nil {
			t.Errorf("no ismaster in %v", reply.Documents[0])
		}
	})
	t.Run("checksum", func(t *testing.T) {
		w := dial(t, s)
		w.send(wire.ChecksumPresent, plain())
		if _, _, a, err := w.receive(5 * time.Second); err != nil || a.OK != 1 {
			t.Errorf("%+v, %v", a, err)
		}
	})
	malformed := map[string]func([]byte) []byte{
		"wrong checksum":      func(b []byte) []byte { b[16] |= 1; return append(b, 1, 2, 3, 4) },
		"unknown flag":        func(b []byte) []byte { b[16] |= 4; return b },
		"garbage at the end":  func(b []byte) []byte { return append(b, 9) },
		"section of kind 9":   func(b []byte) []byte { b[20] = 9; return b },
		"length below header": func(b []byte) []byte { return append([]byte{15, 0, 0, 0}, b[4:]...) },
	}
	for name, spoil := range malformed {
		t.Run(name, func(t *testing.T) {
			w := dial(t, s)
			b := spoil(wire.AppendMsg(nil, wire.Header{RequestID: 1}, wire.Msg{Body: document(t, plain())}))
			if name != "length below header" {
				binary.LittleEndian.PutUint32(b, uint32(len(b)))
			}
			if _, err := w.conn.Write(b); err != nil {
				t.Fatal(err)
			}
			_, _, a, err := w.receive(5 * time.Second)
			if errors.Is(err, os.ErrDeadlineExceeded) || err == nil && a.OK == 1 {
				t.Errorf("%+v, %v; want a refusal", a, err)
			}
		})
	}
}

func refusedAwaits(t *testing.T, s subject) {
	w := dial(t, s)
	v := w.ask(plain()).Version
	ahead, negative := *v, *v
	ahead.Counter, negative.Counter = v.Counter+1000, -5
	for _, c := range []struct {
		code    int32
		command bson.D
	}{
		{31368, bson.D{{Key: "hello", Value: 1}, {Key: "topologyVersion", Value: v}}},
		{31368, bson.D{{Key: "hello", Value: 1}, {Key: "maxAwaitTimeMS", Value: 100}}},
		{31382, awaited(&ahead, 100*time.Millisecond)},
		{31372, awaited(&negative, 100*time.Millisecond)},
		{51024, awaited(v, -time.Millisecond)},
	} {
		if a := w.ask(c.command); a.OK != 0 || a.Code != c.code {
			t.Errorf("%v: %+v, want code %d", c.command, a, c.code)
		}
	}
	other := fakemongod.Version{Process: bson.NewObjectID(), Counter: 1 << 40}
	if a := w.ask(awaited(&other, 20*time.Second)); a.OK != 1 || *a.Version != *v {
		t.Errorf("awaited with another process's version: %+v, want an answer at once", a)
	}
}

func initiation(t *testing.T, s subject) {
	w := dial(t, s)
	before := w.ask(plain())
	w.send(0, awaited(before.Version, 20*time.Second))
	must(t, s, initiate(s.Address()))
	_, _, news, err := w.receive(15 * time.Second)
	if err != nil || news.Version.Process != before.Version.Process || news.Version.Counter <= before.Version.Counter {
		t.Fatalf("awaited hello at the initiation: %+v, %v", news, err)
	}
	a := until(t, s, func(h answer) bool { return h.Writable })
	if a.Secondary || a.Set != "consuldemo" || a.Me != s.Address() || a.Primary != a.Me || !slices.Equal(a.Hosts, []string{a.Me}) {
		t.Errorf("hello of the primary: %+v", a)
	}
	status := must(t, s, bson.D{{Key: "replSetGetStatus", Value: 1}})
	term := status.Lookup("term").AsInt64()
	if binary.BigEndian.Uint32(a.ElectionID[:4]) != 0x7fffffff || a.term() != term || term < 1 || a.LastWrite.OpTime.Term != term {
		t.Errorf("electionId %v and optime %+v at term %d", a.ElectionID, a.LastWrite.OpTime, term)
	}
	if a.LastWrite.OpTime.Timestamp.T == 0 || a.LastWrite.Majority.Timestamp.T == 0 {
		t.Errorf("optimes %+v", a.LastWrite)
	}
	if state := status.Lookup("myState").AsInt64(); state != 1 {
		t.Errorf("myState %d", state)
	}
	if got := status.Lookup("members", "0", "configTerm").AsInt64(); got != term {
		t.Errorf("the configuration of the primary of term %d is of term %d", term, got)
	}
	wantCode(t, s, 23, initiate(s.Address()))
	config := must(t, s, bson.D{{Key: "replSetGetConfig", Value: 1}})
	if host := config.Lookup("config", "members", "0", "host").StringValue(); host != s.Address() {
		t.Errorf("replSetGetConfig: %v", config)
	}
}

func awaitWithoutNews(t *testing.T, s subject) {
	w := dial(t, s)
	a := until(t, s, func(h answer) bool { return h.Writable })
	for range 10 { // an election leaves changes behind for a moment
		started := time.Now()
		next := w.ask(awaited(a.Version, 300*time.Millisecond))
		if *next.Version == *a.Version {
			if took := time.Since(started); took < 290*time.Millisecond {
				t.Errorf("answered without news after %v, want 300 ms", took)
			}
			return
		}
		a = next
	}
	t.Error("it always has news")
}

func writes(t *testing.T, s subject) {
	before := dial(t, s).ask(plain()).LastWrite.OpTime
	must(t, s, insert("first"))
	after := dial(t, s).ask(plain()).LastWrite.OpTime
	if !after.Timestamp.After(before.Timestamp) {
		t.Errorf("optime %+v after a write, %+v before", after, before)
	}
	client, err := mongod.System(s.Address(), mongod.NewSecret(s.Key()))
	if err != nil {
		t.Fatal(err)
	}
	defer mongod.Close(client)
	if _, err := client.Database("admin").Collection("contract").InsertOne(t.Context(), bson.D{{Key: "_id", Value: "first"}}); !mongo.IsDuplicateKeyError(err) {
		t.Errorf("the same _id again: %v, want a duplicate key", err)
	}
	if n := count(t, s, "first"); n != 1 {
		t.Errorf("found %d documents", n)
	}
	for command, code := range map[string]int{"replSetAbortPrimaryCatchUp": 20, "replSetFreeze": 95} {
		wantCode(t, s, code, bson.D{{Key: command, Value: 1}})
	}
	wantCode(t, s, 95, bson.D{{Key: "replSetSyncFrom", Value: "127.0.0.1:1"}})
	must(t, s, bson.D{{Key: "replSetStepUp", Value: 1}})
}

func count(t *testing.T, s subject, id string) int {
	t.Helper()
	raw := must(t, s, bson.D{{Key: "find", Value: "contract"}, {Key: "filter", Value: bson.D{{Key: "_id", Value: id}}}})
	found, err := raw.Lookup("cursor", "firstBatch").Array().Values()
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func stepDown(t *testing.T, s subject) {
	w := dial(t, s)
	before := until(t, s, func(h answer) bool { return h.Writable })
	wantCode(t, s, 262, bson.D{{Key: "replSetStepDown", Value: 60}, {Key: "secondaryCatchUpPeriodSecs", Value: 1}})
	// A refused step-down leaves a new topologyVersion behind, or does not.
	before = w.ask(plain())
	w.send(0, awaited(before.Version, 20*time.Second))
	must(t, s, bson.D{{Key: "replSetStepDown", Value: 60}, {Key: "force", Value: true}})
	_, _, a, err := w.receive(5 * time.Second)
	if err != nil || a.Writable || a.Version.Process != before.Version.Process || a.Version.Counter <= before.Version.Counter {
		t.Fatalf("awaited hello at the step-down: %+v, %v", a, err)
	}
	a = until(t, s, func(h answer) bool { return h.Secondary })
	if a.Primary != "" || !a.ElectionID.IsZero() || a.Version.Counter < before.Version.Counter+2 {
		t.Errorf("hello after the step-down from %+v: %+v", before, a)
	}
}

func asSecondary(t *testing.T, s subject) {
	err := wantCode(t, s, 10107, insert("second"))
	var refused mongo.CommandError
	if errors.As(err, &refused) {
		var a answer
		if err := bson.Unmarshal(refused.Raw, &a); err != nil || a.Version == nil || *a.Version != *dial(t, s).ask(plain()).Version {
			t.Errorf("NotWritablePrimary has the topologyVersion %+v", a.Version)
		}
	}
	wantCode(t, s, 10107, bson.D{{Key: "replSetStepDown", Value: 60}, {Key: "force", Value: true}})
	wantCode(t, s, 125, bson.D{{Key: "replSetStepUp", Value: 1}}) // it has just stepped down
	wantCode(t, s, 74, bson.D{{Key: "replSetSyncFrom", Value: "127.0.0.1:1"}})
	wantCode(t, s, 72, bson.D{{Key: "replSetSyncFrom", Value: s.Address()}})
	wantCode(t, s, 20, bson.D{{Key: "replSetAbortPrimaryCatchUp", Value: 1}})
	must(t, s, bson.D{{Key: "replSetFreeze", Value: 60}})
	if n := count(t, s, "first"); n != 1 {
		t.Errorf("a secondary finds %d documents", n)
	}
	if n := count(t, s, "second"); n != 0 {
		t.Errorf("a refused write was written")
	}
}

// exhaust follows an election and a step-down by what is sent without being
// asked.
func exhaust(t *testing.T, s subject) {
	w := dial(t, s)
	w.send(wire.ExhaustAllowed, plain())
	if _, m, a, err := w.receive(5 * time.Second); err != nil || m.Flags != 0 || a.Code != 51756 {
		t.Errorf("exhaust without maxAwaitTimeMS: flags %#x, %+v, %v; want code 51756", m.Flags, a, err)
	}
	first := w.ask(plain())
	w.send(wire.ExhaustAllowed, awaited(first.Version, 500*time.Millisecond))
	must(t, s, bson.D{{Key: "replSetFreeze", Value: 0}})
	last, previous := first, w.last
	for !last.Writable || last.Version.Counter == first.Version.Counter {
		f, m, a, err := w.receive(10 * time.Second)
		if err != nil {
			t.Fatalf("while it is elected: %v", err)
		}
		if m.Flags != wire.MoreToCome || f.ResponseTo != previous {
			t.Fatalf("flags %#x, in response to %d, want moreToCome and %d; it says %v", m.Flags, f.ResponseTo, previous, m.Body)
		}
		if a.Version.Counter < last.Version.Counter {
			t.Fatalf("topologyVersion %+v after %+v", a.Version, last.Version)
		}
		last, previous = a, f.RequestID
	}
	if last.term() < 2 {
		t.Errorf("elected at term %d", last.term())
	}
	_, m, _, err := w.receive(5 * time.Second)
	if err != nil || m.Flags != wire.MoreToCome {
		t.Errorf("without news: flags %#x, %v, want the next answer", m.Flags, err)
	}
}

func frozen(t *testing.T, s subject) {
	w := dial(t, s)
	w.ask(plain())
	s.Freeze(t)
	fresh := dial(t, s) // the kernel accepts
	for _, c := range []*wired{w, fresh} {
		c.send(0, plain())
		if _, _, _, err := c.receive(150 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("frozen, it says %v", err)
		}
	}
	s.Thaw(t)
	for _, c := range []*wired{w, fresh} {
		if _, _, a, err := c.receive(10 * time.Second); err != nil || a.OK != 1 {
			t.Errorf("thawed: %+v, %v", a, err)
		}
	}
}

func shutdown(t *testing.T, s subject) {
	until(t, s, func(h answer) bool { return h.Writable })
	must(t, s, bson.D{{Key: "replSetStepDown", Value: 60}, {Key: "force", Value: true}})
	a := until(t, s, func(h answer) bool { return h.Secondary })
	w := dial(t, s)
	w.send(0, awaited(a.Version, 20*time.Second))
	s.Terminate(t)
	_, _, last, err := w.receive(10 * time.Second)
	if err != nil || last.OK != 0 || last.Code != 91 || last.Version == nil {
		t.Errorf("awaited hello at the shutdown: %+v, %v; want code 91 with a topologyVersion", last, err)
	}
	s.Kill(t)
	if conn, err := net.Dial("tcp", s.Address()); err == nil {
		_ = conn.Close()
		t.Error("killed, it listens")
	}
	if _, _, _, err := w.receive(5 * time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("killed, its connection is open: %v", err)
	}
}

func restart(t *testing.T, s subject) {
	s.Start(t)
	first := until(t, s, func(h answer) bool { return h.Secondary || h.Writable })
	s.Kill(t)
	s.Start(t)
	again := until(t, s, func(h answer) bool { return h.Secondary || h.Writable })
	if again.Version.Process == first.Version.Process {
		t.Error("the processId is the same after a restart")
	}
	if again.Me != s.Address() || again.Set != "consuldemo" {
		t.Errorf("after a restart: %+v", again)
	}
	if n := count(t, s, "first"); n != 1 {
		t.Errorf("%d documents after a restart", n)
	}
}

func stepUp(t *testing.T, s subject) {
	before := dial(t, s).ask(plain())
	if !before.Secondary || before.Primary == "" || before.Primary == s.Address() {
		t.Fatalf("hello of the second: %+v", before)
	}
	raw := must(t, s, bson.D{{Key: "replSetSyncFrom", Value: before.Primary}})
	if to, _ := raw.Lookup("syncFromRequested").StringValueOK(); to != before.Primary {
		t.Errorf("replSetSyncFrom: %v", raw)
	}
	term := must(t, s, bson.D{{Key: "replSetGetStatus", Value: 1}}).Lookup("term").AsInt64()
	w := dial(t, s)
	w.send(0, awaited(w.ask(plain()).Version, 20*time.Second))
	// A vote is refused to a member whose log is a little behind.
	mongotest.Wait(t, 20*time.Second, "it wins an election", func(context.Context) error {
		_, err := system(t, s, bson.D{{Key: "replSetStepUp", Value: 1}, {Key: "skipDryRun", Value: true}})
		if err != nil && !mongod.HasCode(err, 125) {
			t.Fatalf("replSetStepUp: %v", err)
		}
		return err
	})
	if _, _, a, err := w.receive(5 * time.Second); err != nil || a.Version.Counter <= before.Version.Counter {
		t.Errorf("awaited hello at the step-up: %+v, %v", a, err)
	}
	a := until(t, s, func(h answer) bool { return h.Writable })
	if a.term() <= term || a.Primary != s.Address() {
		t.Errorf("stepped up from term %d: %+v", term, a)
	}
	must(t, s, insert("by the second"))
	must(t, s, bson.D{{Key: "replSetStepDown", Value: 30}, {Key: "secondaryCatchUpPeriodSecs", Value: 10}})
	until(t, s, func(h answer) bool { return h.Secondary })
}
