package h1

import "strconv"

// The defaults of Limits.
const (
	DefaultHead    = 64 << 10
	DefaultFields  = 128
	DefaultLine    = 16 << 10
	DefaultTrailer = 8 << 10

	maxTrailer = largeSize / 2
	maxMethod  = 32
	maxHost    = 255
	// maxOptions bounds the elements of all Connection fields of a message: each is
	// compared with each field.
	maxOptions = 32

	badRequestLine = "the request line is malformed"
	badVersion     = "the version is malformed"
	tooMuch        = "the body is too large"
)

// Limits bound what a Reader takes. A field that is not positive has its default.
type Limits struct {
	// Head bounds the start line and the fields with their line ends, in bytes.
	Head int
	// Fields bounds the field lines of a head, and those of a trailer section.
	Fields int
	// Line bounds a start line without its line end, in bytes.
	Line int
	// Trailer bounds a trailer section, in bytes; 32 KiB is the most.
	Trailer int
	// Body bounds the content of a request, in bytes; 0 is no bound.
	Body int64
}

func (l Limits) orDefaults() Limits {
	or := func(value, otherwise int) int {
		if value > 0 {
			return value
		}
		return otherwise
	}
	l.Head, l.Fields = or(l.Head, DefaultHead), or(l.Fields, DefaultFields)
	l.Line, l.Trailer = or(l.Line, DefaultLine), min(or(l.Trailer, DefaultTrailer), maxTrailer)
	return l
}

// Field is one field line.
type Field struct {
	// Name is as it came; it is a token.
	Name []byte
	// Value is as it came, without the whitespace around it. It has no control byte
	// but HTAB.
	Value []byte
	// Hop is true if the field must not be copied into a message that is sent on:
	// because it is for this connection alone (RFC 9110, section 7.6.1, with the
	// proxy fields of section 11.7), because Connection names it, or because it
	// says how the body is framed, which Writer.Framing says anew.
	Hop bool
}

// Kind is how a body is delimited.
type Kind uint8

const (
	// NoBody means that the message ends with its head.
	NoBody Kind = iota
	// Sized means that the body has Framing.Length bytes, which may be 0.
	Sized
	// Chunked means that the body is in chunks (RFC 9112, section 7.1).
	Chunked
	// UntilClose means that the body ends with the connection. Only responses have
	// such bodies.
	UntilClose
)

// Framing says where a body ends (RFC 9112, section 6.3).
type Framing struct {
	Kind Kind
	// Length of a Sized body, in bytes; else 0.
	Length int64
}

// Request is the head of a request. Its slices are parts of the Reader's buffer:
// they are valid until the Reader reads the next head, or is reset or released.
// A body that is read does not touch them.
type Request struct {
	Method []byte
	// Target is the request target as it came: origin-form, or "*" with OPTIONS.
	Target []byte
	// Path and Query are the parts of Target, still escaped. Each "%" of Path begins
	// a good escape that is not of NUL; Query is not looked into.
	Path, Query []byte
	// HasQuery is true if Target has a "?", be it the last byte.
	HasQuery bool
	// Minor is the version: HTTP/1.Minor, 0 or 1.
	Minor int
	// Host is the value of the one Host field. It is a name or an address, with a
	// port or without; empty only with HTTP/1.0.
	Host []byte
	// Fields are all field lines in their order. The slice is used again for the
	// next request that is read into the same Request.
	Fields []Field
	Body   Framing
	// KeepAlive is true if the client wants to keep the connection.
	KeepAlive bool
	// Expect100 is true if the client waits for 100 (Continue) before it sends the
	// body.
	Expect100 bool
	// Upgrade is the value of the one Upgrade field if Connection has the option
	// "upgrade" and the version is 1.1; else nil.
	Upgrade []byte
	// TETrailers is true if the client takes trailer fields in the response.
	TETrailers bool
}

// Get returns the value of the first field of that name, in any case of letters;
// nil if there is none.
func (r *Request) Get(name string) []byte { return get(r.Fields, name) }

// Response is the head of a response, or of an interim response. Its slices are
// valid as long as those of Request.
type Response struct {
	// Minor is the version: HTTP/1.Minor, 0 or 1.
	Minor int
	// Status is between 100 and 599.
	Status int
	// Reason may be empty.
	Reason []byte
	Fields []Field
	Body   Framing
	// KeepAlive is true if the connection can carry another request after the body.
	KeepAlive bool
	// Upgrade is the value of the one Upgrade field of a 101; else nil.
	Upgrade []byte
}

// Get returns the value of the first field of that name, in any case of letters;
// nil if there is none.
func (r *Response) Get(name string) []byte { return get(r.Fields, name) }

func get(fields []Field, name string) []byte {
	for i := range fields {
		if equalFold(fields[i].Name, name) {
			return fields[i].Value
		}
	}
	return nil
}

// Error means that the peer broke the rules, or asked for what the gateway does
// not do. The connection cannot be used any more: where the next message begins is
// not known.
type Error struct {
	// Status is the one to answer with: 400, 413, 414, 417, 431, 501 or 505 for a request,
	// 502 for a response.
	Status int
	// Reason is one of a few fixed texts. It has nothing of the message in it.
	Reason string
}

func (e *Error) Error() string {
	return "bad HTTP message (" + strconv.Itoa(e.Status) + "): " + e.Reason
}

// bad returns an Error; of a response, with the status of a bad gateway.
func (r *Reader) bad(status int, reason string) error {
	if r.response {
		status = 502
	}
	return &Error{Status: status, Reason: reason}
}

// ValidHost reports whether a Host field may have this value.
func ValidHost(host string) bool { return validHost([]byte(host)) }

// EndToEnd reports whether a field is for the recipient of the content, so that a
// Connection field must not name it.
func EndToEnd(name string) bool { return endToEnd([]byte(name)) }
