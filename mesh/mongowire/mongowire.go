// Package mongowire tells a mesh.Upstream what it needs to know of MongoDB's wire
// protocol: which connections of a driver only watch the topology, whether a
// member leads, and in which term. It reads hello and its answer, and nothing
// else.
//
// Source: MongoDB's wire protocol reference (OP_MSG, OP_QUERY, OP_REPLY) and the
// driver specifications "Handshake" and "Server Discovery and Monitoring".
package mongowire

import (
	"bytes"
	"encoding/binary"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"sluice/mesh"
)

const (
	headerSize = 16
	// maxMessage is the largest message that MongoDB allows, in bytes.
	maxMessage = 48_000_000

	opReply = 1
	opQuery = 2004
	opMsg   = 2013

	flagChecksum = 1
)

// Protocol returns MongoDB's protocol as a mesh.Upstream takes it. A member leads
// if its hello says that it is a writable primary; its epoch is the election term
// in electionId.
func Protocol() *mesh.Protocol {
	return &mesh.Protocol{Greeting: greeting, Watches: watches, Answer: answer, Question: question()}
}

// greeting is Yes for exactly one hello, with which every driver begins.
func greeting(said []byte) mesh.Judgement {
	size, code, body := message(said)
	switch {
	case code == incomplete:
		return mesh.Incomplete
	case size != len(said):
		return mesh.No
	}
	if _, ok := hello(code, body); ok {
		return mesh.Yes
	}
	return mesh.No
}

// watches tells a monitor from others. Only a monitor asks the server to wait for
// a change (topologyVersion, maxAwaitTimeMS). A driver's working connections begin
// with the authentication in hello, and go on with commands.
func watches(said []byte) mesh.Judgement {
	_, code, body := message(said)
	if code == incomplete {
		return mesh.Incomplete
	}
	command, ok := hello(code, body)
	switch {
	case !ok:
		return mesh.No
	case has(command, "saslSupportedMechs"), has(command, "speculativeAuthenticate"):
		return mesh.No
	case has(command, "topologyVersion") && has(command, "maxAwaitTimeMS"):
		return mesh.Yes
	default:
		return mesh.Incomplete
	}
}

// answer judges the answer to a hello. What cannot be read does not lead.
func answer(said []byte) mesh.Answer {
	size, code, body := message(said)
	if code == incomplete {
		return mesh.Answer{}
	}
	document, ok := answered(code, body)
	if !ok || !isTrue(document, "ok") || !isTrue(document, "isWritablePrimary") && !isTrue(document, "ismaster") {
		return mesh.Answer{Size: size, Leads: mesh.No}
	}
	return mesh.Answer{Size: size, Leads: mesh.Yes, Epoch: term(document)}
}

// Codes that are none of the protocol's.
const (
	incomplete = -1
	malformed  = -2
)

// message splits the first message off: its length, its code and its body.
func message(said []byte) (size int, code int32, body []byte) {
	if len(said) < headerSize {
		return 0, incomplete, nil
	}
	length := int32(binary.LittleEndian.Uint32(said))
	switch {
	case length <= headerSize || length > maxMessage:
		return len(said), malformed, nil
	case int(length) > len(said):
		return 0, incomplete, nil
	}
	code = int32(binary.LittleEndian.Uint32(said[12:]))
	if code != opReply && code != opQuery && code != opMsg {
		code = malformed
	}
	return int(length), code, said[headerSize:length]
}

// hello returns the command in a request if it is hello by one of its names.
func hello(code int32, body []byte) (bson.Raw, bool) {
	var command bson.Raw
	var ok bool
	switch code {
	case opMsg:
		command, ok = section(body)
	case opQuery:
		command, ok = query(body)
	}
	if !ok {
		return nil, false
	}
	first, err := command.IndexErr(0)
	if err != nil {
		return nil, false
	}
	switch strings.ToLower(first.Key()) {
	case "hello", "ismaster":
		return command, true
	default:
		return nil, false
	}
}

// section returns the one document of an OP_MSG.
func section(body []byte) (bson.Raw, bool) {
	if len(body) < 5 {
		return nil, false
	}
	if binary.LittleEndian.Uint32(body)&flagChecksum != 0 {
		if len(body) < 9 {
			return nil, false
		}
		body = body[:len(body)-4]
	}
	if body[4] != 0 {
		return nil, false
	}
	return document(body[5:])
}

// query returns the command of an OP_QUERY to "admin.$cmd".
func query(body []byte) (bson.Raw, bool) {
	if len(body) < 4 {
		return nil, false
	}
	collection, rest, ok := bytes.Cut(body[4:], []byte{0})
	if !ok || string(collection) != "admin.$cmd" || len(rest) < 8 {
		return nil, false
	}
	command, ok := document(rest[8:])
	if !ok {
		return nil, false
	}
	if inner, err := command.LookupErr("$query"); err == nil {
		return inner.DocumentOK()
	}
	return command, true
}

// answered returns the one document of an answer.
func answered(code int32, body []byte) (bson.Raw, bool) {
	switch code {
	case opMsg:
		return section(body)
	case opReply:
		if len(body) < 20 || binary.LittleEndian.Uint32(body[16:]) != 1 {
			return nil, false
		}
		return document(body[20:])
	default:
		return nil, false
	}
}

// document returns raw as a document that is valid through and through.
func document(raw []byte) (bson.Raw, bool) {
	if len(raw) < 5 || int(binary.LittleEndian.Uint32(raw)) != len(raw) || bson.Raw(raw).Validate() != nil {
		return nil, false
	}
	return bson.Raw(raw), true
}

func has(d bson.Raw, key string) bool {
	_, err := d.LookupErr(key)
	return err == nil
}

// isTrue reports whether a value is true, or a number that is not zero.
func isTrue(d bson.Raw, key string) bool {
	value, err := d.LookupErr(key)
	if err != nil {
		return false
	}
	if b, ok := value.BooleanOK(); ok {
		return b
	}
	n, ok := value.AsInt64OK()
	return ok && n != 0
}

// term is the election term in an answer: electionId is 0x7fffffff and the term
// as eight bytes, big-endian (mongo, OID::fromTerm). 0 is none.
func term(d bson.Raw) int64 {
	value, err := d.LookupErr("electionId")
	if err != nil {
		return 0
	}
	id, ok := value.ObjectIDOK()
	if !ok || binary.BigEndian.Uint32(id[:4]) != 0x7fffffff {
		return 0
	}
	return max(0, int64(binary.BigEndian.Uint64(id[4:])))
}

// question is {hello: 1} as an OP_MSG.
func question() []byte {
	command, err := bson.Marshal(bson.D{{Key: "hello", Value: int32(1)}, {Key: "$db", Value: "admin"}})
	if err != nil {
		return nil
	}
	out := make([]byte, headerSize+5, headerSize+5+len(command))
	binary.LittleEndian.PutUint32(out, uint32(cap(out)))
	binary.LittleEndian.PutUint32(out[12:], opMsg)
	return append(out, command...)
}
