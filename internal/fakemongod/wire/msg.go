package wire

import (
	"encoding/binary"
	"hash/crc32"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Flags are OP_MSG's flag bits.
type Flags uint32

// The flag bits. A reader must refuse bits among the lower sixteen that it does
// not know, and ignore others.
const (
	// ChecksumPresent: the message ends with a CRC-32C of all before it.
	ChecksumPresent Flags = 1 << 0
	// MoreToCome: the receiver must not answer, or another answer follows.
	MoreToCome Flags = 1 << 1
	// ExhaustAllowed: the sender takes several answers to this message.
	ExhaustAllowed Flags = 1 << 16
)

const requiredBits Flags = 0xffff

// Msg is an OP_MSG.
type Msg struct {
	// Flags are as received; AppendMsg adds a checksum if they say so.
	Flags Flags
	// Body is the command or its answer.
	Body bson.Raw
	// Sequences are what a command has too many of for its body, for example the
	// documents of an insert.
	Sequences []Sequence
}

// Sequence is a section of kind 1.
type Sequence struct {
	// Name is the field of the command that the documents belong to.
	Name      string
	Documents []bson.Raw
}

// Lookup returns the sequence of a name.
func (m Msg) Lookup(name string) ([]bson.Raw, bool) {
	for _, s := range m.Sequences {
		if s.Name == name {
			return s.Documents, true
		}
	}
	return nil, false
}

// ParseMsg reads an OP_MSG. What it returns shares its memory with the frame.
func ParseMsg(f Frame) (Msg, error) {
	if f.OpCode != OpMsg {
		return Msg{}, malformed("operation code %d is not OP_MSG", f.OpCode)
	}
	c := cursor{rest: f.Body}
	m := Msg{Flags: Flags(c.int32("flags"))}
	if unknown := m.Flags & requiredBits &^ (ChecksumPresent | MoreToCome); c.err == nil && unknown != 0 {
		return Msg{}, malformed("unknown flags %#x", uint32(unknown))
	}
	if c.err == nil && m.Flags&ChecksumPresent != 0 {
		if err := c.checksum(f); err != nil {
			return Msg{}, err
		}
	}
	for c.err == nil && len(c.rest) > 0 {
		c.section(&m)
	}
	if c.err != nil {
		return Msg{}, c.err
	}
	if m.Body == nil {
		return Msg{}, malformed("no section of kind 0")
	}
	for _, s := range m.Sequences {
		if _, err := m.Body.LookupErr(s.Name); err == nil {
			return Msg{}, malformed("%q is in the body and in a sequence", s.Name)
		}
	}
	return m, nil
}

// checksum compares the checksum at the end and takes it away.
func (c *cursor) checksum(f Frame) error {
	if len(c.rest) < 4 {
		return malformed("no room for a checksum")
	}
	whole := AppendFrame(nil, f)
	want := checksumOf(whole[:len(whole)-4])
	if got := binary.LittleEndian.Uint32(whole[len(whole)-4:]); got != want {
		return malformed("checksum %08x, want %08x", got, want)
	}
	c.rest = c.rest[:len(c.rest)-4]
	return nil
}

func checksumOf(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func (c *cursor) section(m *Msg) {
	kind := c.take(1, "section kind")
	if c.err != nil {
		return
	}
	switch kind[0] {
	case 0:
		body := c.document("body")
		if c.err == nil && m.Body != nil {
			c.err = malformed("two sections of kind 0")
		}
		m.Body = body
	case 1:
		c.sequence(m)
	default:
		c.err = malformed("section of kind %d", kind[0])
	}
}

func (c *cursor) sequence(m *Msg) {
	size := int(c.int32("size of a sequence"))
	inner := cursor{rest: c.take(size-4, "sequence"), err: c.err}
	s := Sequence{Name: inner.text("name of a sequence")}
	for inner.err == nil && len(inner.rest) > 0 {
		s.Documents = append(s.Documents, inner.document("document of a sequence"))
	}
	c.err = inner.err
	if _, twice := m.Lookup(s.Name); c.err == nil && twice {
		c.err = malformed("two sequences %q", s.Name)
	}
	m.Sequences = append(m.Sequences, s)
}

// AppendMsg adds an OP_MSG to b. The header's operation code is set.
func AppendMsg(b []byte, h Header, m Msg) []byte {
	h.OpCode = OpMsg
	start := len(b)
	b = appendFrame(b, h, func(b []byte) []byte {
		b = binary.LittleEndian.AppendUint32(b, uint32(m.Flags))
		b = append(b, 0)
		b = append(b, m.Body...)
		for _, s := range m.Sequences {
			b = appendSequence(b, s)
		}
		if m.Flags&ChecksumPresent != 0 {
			b = append(b, 0, 0, 0, 0)
		}
		return b
	})
	if m.Flags&ChecksumPresent != 0 {
		end := len(b) - 4
		binary.LittleEndian.PutUint32(b[end:], checksumOf(b[start:end]))
	}
	return b
}

func appendSequence(b []byte, s Sequence) []byte {
	b = append(b, 1)
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = append(b, s.Name...)
	b = append(b, 0)
	for _, d := range s.Documents {
		b = append(b, d...)
	}
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}
