package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/wiremessage"

	"sluice/internal/fakemongod/wire"
)

func doc(t testing.TB, d bson.D) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// samples are messages as they are sent.
func samples(t testing.TB) map[string][]byte {
	hello := doc(t, bson.D{{Key: "hello", Value: 1}, {Key: "$db", Value: "admin"}})
	insert := doc(t, bson.D{{Key: "insert", Value: "c"}, {Key: "$db", Value: "admin"}})
	one := doc(t, bson.D{{Key: "_id", Value: 1}, {Key: "deep", Value: bson.A{bson.D{{Key: "a", Value: true}}}}})
	code := doc(t, bson.D{{Key: "code", Value: bson.CodeWithScope{Code: "f()", Scope: bson.D{{Key: "a", Value: 1}}}}})
	h := wire.Header{RequestID: 7, ResponseTo: 6}
	sequences := []wire.Sequence{{Name: "documents", Documents: []bson.Raw{one, one}}, {Name: "empty"}}
	return map[string][]byte{
		"hello":           wire.AppendMsg(nil, h, wire.Msg{Body: hello}),
		"checksum":        wire.AppendMsg(nil, h, wire.Msg{Flags: wire.ChecksumPresent, Body: hello}),
		"exhaust":         wire.AppendMsg(nil, h, wire.Msg{Flags: wire.ExhaustAllowed | 1<<20, Body: hello}),
		"more to come":    wire.AppendMsg(nil, h, wire.Msg{Flags: wire.MoreToCome, Body: code}),
		"insert":          wire.AppendMsg(nil, h, wire.Msg{Body: insert, Sequences: sequences}),
		"insert, checked": wire.AppendMsg(nil, h, wire.Msg{Flags: wire.ChecksumPresent, Body: insert, Sequences: sequences}),
		"query":           wire.AppendQuery(nil, h, wire.Query{Flags: 4, Collection: "admin.$cmd", Return: -1, Document: hello}),
		"projection":      wire.AppendQuery(nil, h, wire.Query{Collection: "a.b", Skip: 1, Return: 2, Document: hello, Fields: one}),
		"reply":           wire.AppendReply(nil, h, wire.Reply{Flags: 8, CursorID: 1 << 40, Start: 3, Documents: []bson.Raw{hello, one}}),
	}
}

// encode reads one message and writes it again.
func encode(f wire.Frame) ([]byte, error) {
	switch f.OpCode {
	case wire.OpMsg:
		m, err := wire.ParseMsg(f)
		return wire.AppendMsg(nil, f.Header, m), err
	case wire.OpQuery:
		q, err := wire.ParseQuery(f)
		return wire.AppendQuery(nil, f.Header, q), err
	case wire.OpReply:
		r, err := wire.ParseReply(f)
		return wire.AppendReply(nil, f.Header, r), err
	default:
		return nil, wire.ErrMalformed
	}
}

func TestMessagesSurviveReadingAndWriting(t *testing.T) {
	for name, message := range samples(t) {
		f, err := wire.ReadFrame(bytes.NewReader(message), wire.MaxMessage)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := encode(f)
		if err != nil || !bytes.Equal(again, message) {
			t.Errorf("%s: read as\n%x, %v, sent as\n%x", name, again, err, message)
		}
	}
}

func TestEveryCutAndEveryExtensionOfAMessageIsRefused(t *testing.T) {
	for name, message := range samples(t) {
		for n := range len(message) {
			_, err := wire.ReadFrame(bytes.NewReader(message[:n]), wire.MaxMessage)
			if want := map[bool]error{true: io.EOF, false: io.ErrUnexpectedEOF}[n == 0]; !errors.Is(err, want) {
				t.Fatalf("%s, first %d bytes: %v, want %v", name, n, err, want)
			}
			// The same with a length that says that this is all.
			if n < 16 {
				continue
			}
			short := bytes.Clone(message[:n])
			binary.LittleEndian.PutUint32(short, uint32(n))
			if again, err := reread(short); err == nil && !bytes.Equal(again, short) {
				t.Fatalf("%s, cut to %d bytes, is read as something else", name, n)
			}
		}
		if strings.Contains(name, "check") || name == "insert" {
			continue
		}
		long := append(bytes.Clone(message), 0)
		binary.LittleEndian.PutUint32(long, uint32(len(long)))
		if _, err := reread(long); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s with a byte too many: %v", name, err)
		}
	}
}

func reread(message []byte) ([]byte, error) {
	f, err := wire.ReadFrame(bytes.NewReader(message), wire.MaxMessage)
	if err != nil {
		return nil, err
	}
	return encode(f)
}

func TestChecksumFindsEveryFlippedBit(t *testing.T) {
	message := samples(t)["insert, checked"]
	for i := 16; i < len(message); i++ {
		for bit := range 8 {
			if i == 16 && bit == 0 {
				continue // no checksum, then
			}
			spoilt := bytes.Clone(message)
			spoilt[i] ^= 1 << bit
			if _, err := reread(spoilt); err == nil {
				t.Fatalf("byte %d, bit %d", i, bit)
			}
		}
	}
}

func TestMalformedMessagesAreRefusedWithTheirReason(t *testing.T) {
	body := doc(t, bson.D{{Key: "insert", Value: "c"}})
	msg := func(rest ...byte) []byte {
		return wire.AppendFrame(nil, wire.Frame{Header: wire.Header{OpCode: wire.OpMsg}, Body: append([]byte{0, 0, 0, 0}, rest...)})
	}
	section := append([]byte{0}, body...)
	sequence := func(size byte, rest ...byte) []byte {
		return append(append([]byte{1, size, 0, 0, 0}, rest...), section...)
	}
	nested := bson.Raw{5, 0, 0, 0, 0}
	for range wire.MaxDepth {
		nested = doc(t, bson.D{{Key: "", Value: nested}})
	}
	for reason, message := range map[string][]byte{
		"no section of kind 0":              msg(),
		"two sections of kind 0":            msg(append(bytes.Clone(section), section...)...),
		"section of kind 2":                 msg(2),
		"unknown flags 0x4":                 wire.AppendFrame(nil, wire.Frame{Header: wire.Header{OpCode: wire.OpMsg}, Body: append([]byte{4, 0, 0, 0}, section...)}),
		"name of a sequence does not end":   msg(sequence(5, 'a')...),
		"sequence: 21 bytes are left":       msg(sequence(99, 0)...),
		"-4 are needed":                     msg(sequence(0, 0)...),
		"two sequences \"a\"":               msg(append([]byte{1, 6, 0, 0, 0, 'a', 0}, sequence(6, 'a', 0)...)...),
		"is in the body and in a sequence":  wire.AppendMsg(nil, wire.Header{}, wire.Msg{Body: body, Sequences: []wire.Sequence{{Name: "insert"}}}),
		"document of a sequence":            msg(sequence(10, 'a', 0, 5, 0, 0, 0)...),
		"more than 200 deep":                wire.AppendMsg(nil, wire.Header{}, wire.Msg{Body: nested}),
		"no room for a checksum":            wire.AppendFrame(nil, wire.Frame{Header: wire.Header{OpCode: wire.OpMsg}, Body: []byte{1, 0, 0, 0, 0}}),
		"a boolean of 2":                    msg(append([]byte{0}, 9, 0, 0, 0, 8, 'a', 0, 2, 0)...),
		"a document's length is not":        msg(append([]byte{0}, 5, 0, 0, 0, 1)...),
		"operation code 2012 is not OP_MSG": wire.AppendFrame(nil, wire.Frame{Header: wire.Header{OpCode: 2012}}),
		"2 documents announced, 1 sent":     append(bytes.Clone(samples(t)["reply"][:32]), append([]byte{2, 0, 0, 0}, body...)...),
	} {
		binary.LittleEndian.PutUint32(message, uint32(len(message)))
		f, err := wire.ReadFrame(bytes.NewReader(message), wire.MaxMessage)
		if err != nil {
			t.Fatal(err)
		}
		if f.OpCode == wire.OpReply {
			_, err = wire.ParseReply(f)
		} else {
			_, err = wire.ParseMsg(f)
		}
		if !errors.Is(err, wire.ErrMalformed) || !strings.Contains(err.Error(), reason) {
			t.Errorf("%v, want %q", err, reason)
		}
	}
}

func TestAnnouncedLengthsCostNoMemory(t *testing.T) {
	var header [16]byte
	binary.LittleEndian.PutUint32(header[:], wire.MaxMessage)
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			_, err := wire.ReadFrame(bytes.NewReader(header[:]), wire.MaxMessage)
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				b.Fatal(err)
			}
		}
	}).AllocedBytesPerOp()
	if allocated > 256<<10 {
		t.Errorf("a header alone made the reader allocate %d bytes", allocated)
	}
	for _, length := range []uint32{0, 15, wire.MaxMessage + 1, 1 << 31, 1<<32 - 1} {
		binary.LittleEndian.PutUint32(header[:], length)
		if _, err := wire.ReadFrame(bytes.NewReader(header[:]), wire.MaxMessage); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("length %d: %v", length, err)
		}
	}
}

// FuzzMessage holds the reader to three things: it never panics; what it takes,
// it writes again byte by byte, but for the order of the sections; and the
// driver's own parser sees the same in it.
func FuzzMessage(f *testing.F) {
	for _, message := range samples(f) {
		f.Add(message)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		frame, err := wire.ReadFrame(bytes.NewReader(message), 1<<20)
		if err != nil {
			return
		}
		again, err := encode(frame)
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Fatalf("an error that is not ErrMalformed: %v", err)
			}
			return
		}
		length := int(binary.LittleEndian.Uint32(message))
		if len(again) != length {
			t.Fatalf("%d bytes were read and are %d when written", length, len(again))
		}
		if once, err := reread(again); err != nil || !bytes.Equal(once, again) {
			t.Fatalf("what was written is not read again: %v", err)
		}
		if frame.OpCode == wire.OpMsg {
			m, _ := wire.ParseMsg(frame)
			compare(t, message[:length], m)
		} else if !bytes.Equal(again, message[:length]) {
			t.Fatalf("written as\n%x, was\n%x", again, message[:length])
		}
	})
}

// compare reads an OP_MSG with the driver's parser.
func compare(t *testing.T, message []byte, want wire.Msg) {
	t.Helper()
	_, _, _, code, rest, ok := wiremessage.ReadHeader(message)
	if !ok || code != wiremessage.OpMsg {
		t.Fatalf("the driver: operation code %v, %v", code, ok)
	}
	flags, rest, ok := wiremessage.ReadMsgFlags(rest)
	if !ok || uint32(flags) != uint32(want.Flags) {
		t.Fatalf("the driver: flags %#x, %v; want %#x", flags, ok, want.Flags)
	}
	if want.Flags&wire.ChecksumPresent != 0 {
		if _, _, ok := wiremessage.ReadMsgChecksum(rest[len(rest)-4:]); !ok {
			t.Fatal("the driver sees no checksum")
		}
		rest = rest[:len(rest)-4]
	}
	for seen := 0; len(rest) > 0; {
		var kind wiremessage.SectionType
		kind, rest, ok = wiremessage.ReadMsgSectionType(rest)
		if !ok {
			t.Fatal("the driver sees no section")
		}
		if kind == wiremessage.SingleDocument {
			var body bsoncore.Document
			if body, rest, ok = wiremessage.ReadMsgSectionSingleDocument(rest); !ok || !bytes.Equal(body, want.Body) {
				t.Fatalf("the driver: body %x, %v; want %x", body, ok, want.Body)
			}
			continue
		}
		var name string
		var documents []bsoncore.Document
		if name, documents, rest, ok = wiremessage.ReadMsgSectionDocumentSequence(rest); !ok {
			t.Fatal("the driver sees no sequence")
		}
		s := want.Sequences[seen]
		if seen++; name != s.Name || len(documents) != len(s.Documents) {
			t.Fatalf("the driver: sequence %q of %d, want %q of %d", name, len(documents), s.Name, len(s.Documents))
		}
		for i := range documents {
			if !bytes.Equal(documents[i], s.Documents[i]) {
				t.Fatalf("the driver: document %x, want %x", documents[i], s.Documents[i])
			}
		}
	}
}
