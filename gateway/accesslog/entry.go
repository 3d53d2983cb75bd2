package accesslog

import (
	"net/netip"
	"time"
)

// Entry is what the log is told about one request. Put copies it: its strings
// need to hold only until Put returns.
type Entry struct {
	// Start and End are the first byte of the request's head and the last of the
	// answer.
	Start, End time.Time
	// Overhead is the part of that time that was the gateway's own.
	Overhead time.Duration
	Client   netip.AddrPort
	// TLS is true where the client came over TLS, if only to a trusted proxy in front.
	TLS    bool
	Method string
	// Target is the request target as it came: path and query.
	Target string
	// Protocol is "HTTP/1.1", "HTTP/2.0" and so on.
	Protocol string
	Host     string
	// User is who has shown credentials.
	User      string
	RequestID string
	Referer   string
	UserAgent string
	// Headers are the request's, for the fields $header.NAME; may be nil. It is
	// asked only for the names in Log.Headers, before Put returns.
	Headers interface{ Get(name string) string }

	Status int
	// BytesIn and BytesOut are the lengths of the two bodies.
	BytesIn, BytesOut int64
	Flags             Flags
	// Reason says in words why the request failed; "" if it did not.
	Reason string

	// Route is the key of the route that took the request.
	Route string
	// Service, Instance, Datacenter and Upstream are of the last attempt: the name
	// in the catalog, the registration, where it is, its address.
	Service, Instance, Datacenter string
	Upstream                      netip.AddrPort
	UpstreamTLS                   bool
	// UpstreamTarget is the target that the instance got.
	UpstreamTarget string
	// Source and Destination are the SPIFFE IDs of the two ends, Serial the number of
	// the leaf that the gateway presented.
	Source, Destination, Serial string
	// Attempts is how many instances were tried.
	Attempts int
}

// text is a piece of a slot's arena.
type text struct{ from, to uint16 }

// slot keeps one entry, without a pointer into what the request has.
type slot struct {
	entry   Entry // without its strings and Headers
	texts   [numTexts]text
	headers [maxHeaders]text
	arena   [arenaSize]byte
	used    int
}

// The texts of a slot.
const (
	textMethod = iota
	textTarget
	textProtocol
	textHost
	textUser
	textRequestID
	textReferer
	textUserAgent
	textReason
	textRoute
	textService
	textInstance
	textDatacenter
	textUpstreamTarget
	textSource
	textDestination
	textSerial
	numTexts
)

const (
	// arenaSize is how many bytes of text one entry may have, and maxText how many
	// one text of it. What is longer is cut off.
	arenaSize = 2048
	maxText   = 768
	// maxHeaders bounds the headers of a custom format.
	maxHeaders = 8
)

// fill copies e. The short texts come first, so that a long one cannot crowd them
// out.
func (s *slot) fill(e *Entry, headers []string) {
	s.used = 0
	for i, value := range [numTexts]string{
		textMethod: e.Method, textProtocol: e.Protocol, textHost: e.Host, textUser: e.User, textRequestID: e.RequestID,
		textRoute: e.Route, textService: e.Service, textInstance: e.Instance, textDatacenter: e.Datacenter,
		textSource: e.Source, textDestination: e.Destination, textSerial: e.Serial,
	} {
		s.texts[i] = s.keep(value, maxText/4)
	}
	s.texts[textTarget] = s.keep(e.Target, maxText)
	s.texts[textReason] = s.keep(e.Reason, maxText)
	s.texts[textUserAgent] = s.keep(e.UserAgent, maxText/2)
	s.texts[textReferer] = s.keep(e.Referer, maxText)
	for i, header := range headers {
		s.headers[i] = text{}
		if e.Headers != nil {
			s.headers[i] = s.keep(e.Headers.Get(header), maxText)
		}
	}
	s.texts[textUpstreamTarget] = s.keep(e.UpstreamTarget, maxText)
	s.entry = Entry{
		Start: e.Start, End: e.End, Overhead: e.Overhead, Client: e.Client, TLS: e.TLS, Status: e.Status,
		BytesIn: e.BytesIn, BytesOut: e.BytesOut, Flags: e.Flags, Upstream: e.Upstream, UpstreamTLS: e.UpstreamTLS,
		Attempts: e.Attempts,
	}
}

func (s *slot) keep(value string, limit int) text {
	n := copy(s.arena[s.used:], value[:min(len(value), limit)])
	t := text{uint16(s.used), uint16(s.used + n)}
	s.used += n
	return t
}

func (s *slot) text(i int) []byte   { return s.bytes(s.texts[i]) }
func (s *slot) header(i int) []byte { return s.bytes(s.headers[i]) }

func (s *slot) bytes(t text) []byte { return s.arena[t.from:t.to] }
