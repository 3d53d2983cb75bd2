package wire

import (
	"encoding/binary"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Query is an OP_QUERY. Drivers send one, as their first hello, because they do
// not know yet whether OP_MSG is understood.
type Query struct {
	Flags int32
	// Collection is "database.$cmd" for a command.
	Collection string
	// Skip and Return are how many documents to leave out and to send.
	Skip, Return int32
	Document     bson.Raw
	// Fields is nil unless the query has a projection.
	Fields bson.Raw
}

// queryFlags are the bits that OP_QUERY has: all but the lowest, to 1<<7.
const queryFlags = 0xfe

// ParseQuery reads an OP_QUERY. What it returns shares its memory with the
// frame.
func ParseQuery(f Frame) (Query, error) {
	if f.OpCode != OpQuery {
		return Query{}, malformed("operation code %d is not OP_QUERY", f.OpCode)
	}
	c := cursor{rest: f.Body}
	q := Query{Flags: c.int32("flags"), Collection: c.text("collection")}
	q.Skip, q.Return = c.int32("skip"), c.int32("return")
	q.Document = c.document("query")
	if c.err == nil && len(c.rest) > 0 {
		q.Fields = c.document("projection")
	}
	if err := c.end(); err != nil {
		return Query{}, err
	}
	if unknown := q.Flags &^ queryFlags; unknown != 0 {
		return Query{}, malformed("unknown flags %#x", uint32(unknown))
	}
	return q, nil
}

// AppendQuery adds an OP_QUERY to b. The header's operation code is set.
func AppendQuery(b []byte, h Header, q Query) []byte {
	h.OpCode = OpQuery
	return appendFrame(b, h, func(b []byte) []byte {
		b = appendInt32(b, q.Flags)
		b = append(append(b, q.Collection...), 0)
		b = appendInt32(b, q.Skip, q.Return)
		return append(append(b, q.Document...), q.Fields...)
	})
}

// Reply is an OP_REPLY, the answer to an OP_QUERY.
type Reply struct {
	Flags     int32
	CursorID  int64
	Start     int32
	Documents []bson.Raw
}

// ParseReply reads an OP_REPLY. What it returns shares its memory with the
// frame.
func ParseReply(f Frame) (Reply, error) {
	if f.OpCode != OpReply {
		return Reply{}, malformed("operation code %d is not OP_REPLY", f.OpCode)
	}
	c := cursor{rest: f.Body}
	r := Reply{Flags: c.int32("flags"), CursorID: c.int64("cursor"), Start: c.int32("start")}
	count := c.int32("number of documents")
	for c.err == nil && len(c.rest) > 0 {
		r.Documents = append(r.Documents, c.document("document"))
	}
	if c.err != nil {
		return Reply{}, c.err
	}
	if int(count) != len(r.Documents) {
		return Reply{}, malformed("%d documents announced, %d sent", count, len(r.Documents))
	}
	return r, nil
}

// AppendReply adds an OP_REPLY to b. The header's operation code is set.
func AppendReply(b []byte, h Header, r Reply) []byte {
	h.OpCode = OpReply
	return appendFrame(b, h, func(b []byte) []byte {
		b = appendInt32(b, r.Flags)
		b = binary.LittleEndian.AppendUint64(b, uint64(r.CursorID))
		b = appendInt32(b, r.Start, int32(len(r.Documents)))
		for _, d := range r.Documents {
			b = append(b, d...)
		}
		return b
	})
}
