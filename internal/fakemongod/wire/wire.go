// Package wire reads and writes the messages that a MongoDB driver and mongod
// exchange: OP_MSG, and OP_QUERY with OP_REPLY for a driver's first hello
// (mongodb/specifications, message/OP_MSG; mongo, src/mongo/rpc/op_msg.cpp).
//
// The reader is strict: whatever is not exactly one well-formed message is an
// error, where a lenient reader would guess. It allocates no more than it has
// received, whatever a length field announces.
package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The operation codes that this package knows.
const (
	OpReply int32 = 1
	OpQuery int32 = 2004
	OpMsg   int32 = 2013
)

// Limits that mongod announces in its hello and keeps to.
const (
	// MaxMessage is the largest message in bytes, header included.
	MaxMessage = 48_000_000
	// MaxDocument is the largest document in bytes: what a user may store and
	// room for the command around it.
	MaxDocument = 16<<20 + 16<<10
	// MaxDepth is how deep documents and arrays may lie in each other.
	MaxDepth = 200
)

const (
	headerSize = 16
	// chunk is how much memory a length field alone can make the reader allocate.
	chunk = 64 << 10
)

// ErrMalformed is what every complaint about a message's content wraps.
var ErrMalformed = errors.New("malformed message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Header is what every message begins with; its length is implied.
type Header struct {
	RequestID, ResponseTo, OpCode int32
}

// Frame is one message, not looked into yet.
type Frame struct {
	Header
	// Body is what follows the header.
	Body []byte
}

// ReadFrame reads one message of at most limit bytes. At the end of the stream
// between two messages the error is io.EOF, within one io.ErrUnexpectedEOF; a
// length that cannot be is ErrMalformed.
func ReadFrame(r io.Reader, limit int) (Frame, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return Frame{}, err
	}
	length := int64(int32(binary.LittleEndian.Uint32(header[:])))
	if length < headerSize || length > int64(limit) {
		return Frame{}, malformed("a length of %d bytes, allowed are %d to %d", length, headerSize, limit)
	}
	rest := length - headerSize
	var body bytes.Buffer
	body.Grow(int(min(rest, chunk)))
	if _, err := io.CopyN(&body, r, rest); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	field := func(at int) int32 { return int32(binary.LittleEndian.Uint32(header[at:])) }
	return Frame{
		Header: Header{RequestID: field(4), ResponseTo: field(8), OpCode: field(12)},
		Body:   body.Bytes(),
	}, nil
}

// appendFrame adds a message to b whose body write appends.
func appendFrame(b []byte, h Header, write func([]byte) []byte) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = appendInt32(b, h.RequestID, h.ResponseTo, h.OpCode)
	b = write(b)
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

// AppendFrame adds the frame as it is on the wire.
func AppendFrame(b []byte, f Frame) []byte {
	return appendFrame(b, f.Header, func(b []byte) []byte { return append(b, f.Body...) })
}

func appendInt32(b []byte, values ...int32) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	return b
}

// cursor walks through a message's body; after the first complaint it yields
// nothing more.
type cursor struct {
	rest []byte
	err  error
}

func (c *cursor) take(n int, what string) []byte {
	if c.err == nil && (n < 0 || n > len(c.rest)) {
		c.err = malformed("%s: %d bytes are left, %d are needed", what, len(c.rest), n)
	}
	if c.err != nil {
		return nil
	}
	taken := c.rest[:n:n]
	c.rest = c.rest[n:]
	return taken
}

func (c *cursor) int32(what string) int32 {
	raw := c.take(4, what)
	if c.err != nil {
		return 0
	}
	return int32(binary.LittleEndian.Uint32(raw))
}

func (c *cursor) int64(what string) int64 {
	raw := c.take(8, what)
	if c.err != nil {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(raw))
}

func (c *cursor) text(what string) string {
	if c.err != nil {
		return ""
	}
	end := bytes.IndexByte(c.rest, 0)
	if end < 0 {
		c.err = malformed("%s does not end", what)
		return ""
	}
	return strings.Clone(string(c.take(end+1, what)[:end]))
}

func (c *cursor) document(what string) bson.Raw {
	if c.err == nil && len(c.rest) < 5 {
		c.err = malformed("%s: %d bytes are left, a document needs 5", what, len(c.rest))
	}
	if c.err != nil {
		return nil
	}
	raw := c.take(int(int32(binary.LittleEndian.Uint32(c.rest))), what)
	if c.err != nil {
		return nil
	}
	if err := CheckDocument(raw); err != nil {
		c.err = fmt.Errorf("%s: %w", what, err)
		return nil
	}
	return bson.Raw(raw)
}

// end complains about anything that is left.
func (c *cursor) end() error {
	if c.err == nil && len(c.rest) > 0 {
		c.err = malformed("%d bytes after its end", len(c.rest))
	}
	return c.err
}

// CheckDocument returns nil if raw is exactly one document, all the way down,
// within MaxDocument and MaxDepth.
func CheckDocument(raw []byte) error {
	if len(raw) > MaxDocument {
		return malformed("a document of %d bytes, allowed are %d", len(raw), MaxDocument)
	}
	return checkDepth(raw, 1)
}

func checkDepth(raw []byte, depth int) error {
	if depth > MaxDepth {
		return malformed("documents lie more than %d deep in each other", MaxDepth)
	}
	if len(raw) < 5 || int(int32(binary.LittleEndian.Uint32(raw))) != len(raw) || raw[len(raw)-1] != 0 {
		return malformed("a document's length is not its length")
	}
	elements, err := bson.Raw(raw).Elements()
	if err != nil {
		return malformed("document: %v", err)
	}
	for _, e := range elements {
		if err := checkElement(e, depth); err != nil {
			return err
		}
	}
	return nil
}

func checkElement(e bson.RawElement, depth int) error {
	value, err := e.ValueErr()
	if err == nil {
		err = value.Validate()
	}
	if err != nil {
		return malformed("element: %v", err)
	}
	switch value.Type {
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		return checkDepth(value.Value, depth+1)
	case bson.TypeCodeWithScope:
		return checkCodeWithScope(value.Value, depth)
	case bson.TypeBoolean:
		if value.Value[0] > 1 {
			return malformed("a boolean of %d", value.Value[0])
		}
	default:
	}
	return nil
}

// checkCodeWithScope looks at the parts itself: the driver's own check does not,
// and its reader panics where they do not fit.
func checkCodeWithScope(raw []byte, depth int) error {
	c := cursor{rest: raw}
	whole, code := c.int32("code with scope"), int(c.int32("code"))
	text := c.take(code, "code")
	if c.err == nil && (int(whole) != len(raw) || code < 1 || text[code-1] != 0) {
		c.err = malformed("code with scope: its lengths do not fit")
	}
	if c.err != nil {
		return c.err
	}
	return checkDepth(c.rest, depth+1)
}
