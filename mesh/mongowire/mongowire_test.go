package mongowire

import (
	"encoding/binary"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"sluice/mesh"
)

func packed(code uint32, body []byte) []byte {
	out := make([]byte, headerSize, headerSize+len(body))
	binary.LittleEndian.PutUint32(out, uint32(headerSize+len(body)))
	binary.LittleEndian.PutUint32(out[12:], code)
	return append(out, body...)
}

func raw(t testing.TB, d bson.D) []byte {
	t.Helper()
	b, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func msg(t testing.TB, flags uint32, d bson.D) []byte {
	body := binary.LittleEndian.AppendUint32(nil, flags)
	body = append(append(body, 0), raw(t, d)...)
	if flags&flagChecksum != 0 {
		body = append(body, 1, 2, 3, 4)
	}
	return packed(opMsg, body)
}

func legacy(t testing.TB, collection string, d bson.D) []byte {
	body := append(make([]byte, 4), collection...)
	body = append(body, 0)
	body = append(body, make([]byte, 8)...)
	return packed(opQuery, append(body, raw(t, d)...))
}

func reply(t testing.TB, d bson.D) []byte {
	body := make([]byte, 20)
	body[16] = 1
	return packed(opReply, append(body, raw(t, d)...))
}

func e(key string, value any) bson.E { return bson.E{Key: key, Value: value} }

func electionID(n int64) bson.ObjectID {
	var id bson.ObjectID
	binary.BigEndian.PutUint32(id[:], 0x7fffffff)
	binary.BigEndian.PutUint64(id[4:], uint64(n))
	return id
}

func TestAConnectionIsKnownByItsHello(t *testing.T) {
	version := bson.D{e("processId", bson.NewObjectID()), e("counter", int64(6))}
	for _, c := range []struct {
		name              string
		said              []byte
		greeting, watches mesh.Judgement
	}{
		{"first hello of a monitor", legacy(t, "admin.$cmd", bson.D{e("isMaster", 1), e("helloOk", true)}), mesh.Yes, mesh.Incomplete},
		{"wrapped", legacy(t, "admin.$cmd", bson.D{e("$query", bson.D{e("ismaster", 1)})}), mesh.Yes, mesh.Incomplete},
		{"hello of a monitor", msg(t, 1<<16, bson.D{e("hello", 1), e("topologyVersion", version), e("maxAwaitTimeMS", int64(500))}), mesh.Yes, mesh.Yes},
		{"hello for the round trip", msg(t, 0, bson.D{e("hello", 1)}), mesh.Yes, mesh.Incomplete},
		{"with a checksum", msg(t, 1, bson.D{e("hello", 1)}), mesh.Yes, mesh.Incomplete},
		{"hello of a working connection", legacy(t, "admin.$cmd", bson.D{e("isMaster", 1), e("saslSupportedMechs", "blog.web")}), mesh.Yes, mesh.No},
		{"with authentication", msg(t, 0, bson.D{e("hello", 1), e("speculativeAuthenticate", bson.D{})}), mesh.Yes, mesh.No},
		{"command", msg(t, 0, bson.D{e("insert", "entries")}), mesh.No, mesh.No},
		{"hello elsewhere", legacy(t, "blog.$cmd", bson.D{e("hello", 1)}), mesh.No, mesh.No},
		{"two messages", append(msg(t, 0, bson.D{e("hello", 1)}), msg(t, 0, bson.D{e("hello", 1)})...), mesh.No, mesh.Incomplete},
		{"half a message", msg(t, 0, bson.D{e("hello", 1)})[:30], mesh.Incomplete, mesh.Incomplete},
		{"nothing", nil, mesh.Incomplete, mesh.Incomplete},
		{"no MongoDB", []byte("GET / HTTP/1.1\r\nHost: mongo\r\n\r\n"), mesh.No, mesh.No},
		{"empty command", msg(t, 0, bson.D{}), mesh.No, mesh.No},
	} {
		if got := greeting(c.said); got != c.greeting {
			t.Errorf("%s: greeting = %v, want %v", c.name, got, c.greeting)
		}
		if got := watches(c.said); got != c.watches {
			t.Errorf("%s: watches = %v, want %v", c.name, got, c.watches)
		}
	}
}

func TestOnlyAWritablePrimaryLeads(t *testing.T) {
	primary := bson.D{e("isWritablePrimary", true), e("electionId", electionID(7)), e("ok", 1.0)}
	for _, c := range []struct {
		name  string
		said  []byte
		leads mesh.Judgement
		epoch int64
	}{
		{"primary", msg(t, 2, primary), mesh.Yes, 7},
		{"primary of old", reply(t, bson.D{e("ismaster", true), e("electionId", electionID(8)), e("ok", 1.0)}), mesh.Yes, 8},
		{"without a term", msg(t, 0, bson.D{e("isWritablePrimary", true), e("ok", 1.0)}), mesh.Yes, 0},
		{"foreign electionId", msg(t, 0, bson.D{e("isWritablePrimary", true), e("electionId", bson.ObjectID{1}), e("ok", 1.0)}), mesh.Yes, 0},
		{"secondary", msg(t, 0, bson.D{e("isWritablePrimary", false), e("secondary", true), e("ok", 1.0)}), mesh.No, 0},
		{"shutting down", msg(t, 0, bson.D{e("ok", 0.0), e("code", 91)}), mesh.No, 0},
		{"no document", packed(opMsg, []byte{0, 0, 0, 0, 1}), mesh.No, 0},
		{"broken length", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), mesh.No, 0},
	} {
		got := answer(c.said)
		if got.Leads != c.leads || got.Epoch != c.epoch || got.Size != len(c.said) {
			t.Errorf("%s: %+v, want %v in %d, of %d bytes", c.name, got, c.leads, c.epoch, len(c.said))
		}
		for cut := range c.said {
			if early := answer(c.said[:cut]); early.Leads == mesh.Yes || early.Size > cut {
				t.Fatalf("%s: %+v after %d bytes", c.name, early, cut)
			}
		}
	}
	two := append(msg(t, 0, primary), msg(t, 0, primary)...)
	if got := answer(two); got.Size != len(two)/2 {
		t.Errorf("two messages: %+v", got)
	}
}

func TestTheOwnQuestionIsAHello(t *testing.T) {
	if got := greeting(question()); got != mesh.Yes {
		t.Errorf("greeting = %v", got)
	}
}

// FuzzMessages: whatever is said, a judgement comes back, never about more bytes
// than there are, and what is final stays so when more arrives.
func FuzzMessages(f *testing.F) {
	f.Add(question(), []byte{1})
	f.Add(msg(f, 2, bson.D{e("isWritablePrimary", true), e("electionId", electionID(7)), e("ok", 1.0)}), []byte(nil))
	f.Add(legacy(f, "admin.$cmd", bson.D{e("isMaster", 1), e("saslSupportedMechs", "blog.web")}), []byte("x"))
	f.Fuzz(func(t *testing.T, said, more []byte) {
		a := answer(said)
		if a.Size < 0 || a.Size > len(said) || (a.Size == 0) != (a.Leads == mesh.Incomplete) && len(said) > 0 || a.Epoch < 0 {
			t.Fatalf("answer of %d bytes: %+v", len(said), a)
		}
		longer := append(append([]byte(nil), said...), more...)
		if first := watches(said); first != mesh.Incomplete && watches(longer) != first {
			t.Fatalf("watches changed its mind: %v, then %v", first, watches(longer))
		}
		if first := answer(said); first.Leads == mesh.Yes && answer(longer) != first {
			t.Fatalf("answer changed its mind: %+v, then %+v", first, answer(longer))
		}
		if greeting(said) == mesh.No && greeting(longer) != mesh.No {
			t.Fatal("greeting changed its mind")
		}
	})
}
