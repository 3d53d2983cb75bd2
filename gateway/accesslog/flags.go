package accesslog

import "strings"

// Flags say what was out of the ordinary with a request. The two-letter names
// are Envoy's where Envoy has the case.
type Flags uint32

// The response flags.
const (
	// NoHealthy (UH): the route has no healthy instance.
	NoHealthy Flags = 1 << iota
	// ConnectFailed (UF): no connection to an instance came about.
	ConnectFailed
	// Overflow (UO): an instance, or the gateway, has as much to do as it may have.
	Overflow
	// UpstreamTimeout (UT): an instance did not answer in time.
	UpstreamTimeout
	// UpstreamReset (UR): an instance reset its connection, or ended it too early.
	UpstreamReset
	// UpstreamMalformed (UPE): what an instance answered breaks its protocol.
	UpstreamMalformed
	// NoRoute (NR): no route takes the request.
	NoRoute
	// RetriesExhausted (URX): of several attempts the last one that was allowed failed.
	RetriesExhausted
	// ClientGone (DC): the client ended its connection first; of a TCP connection, by a
	// reset.
	ClientGone
	// ClientMalformed (DPE): what the client sent breaks its protocol.
	ClientMalformed
	// ClientTimeout (DT): the client did not send its request in time.
	ClientTimeout
	// Denied (DI): denied by an intention.
	Denied
	// WrongIdentity (WI): somebody else answered at an instance's address.
	WrongIdentity
	// NotReady (NL): the gateway has no leaf, or one that has expired.
	NotReady
	// HandshakeFailed (TF): TLS with an instance failed for another reason.
	HandshakeFailed
	// Refused (CA): the client's address may not use the route, or nobody may.
	Refused
	// Unauthenticated (CU): the client's credentials are missing or wrong.
	Unauthenticated
	// OtherDatacenter (FO): answered by an instance of a datacenter that is not the
	// first in order.
	OtherDatacenter
	// Panicked (PM): ejected instances were used, because too few were left.
	Panicked
	// Drained (DR): cut because the gateway stopped, and waited no longer for it.
	Drained
	// Cut (CT): a TCP connection that was cut because its instance turned unhealthy, its
	// route went, or the instance's leaf expired.
	Cut
	// Hedged (HG): the request was sent to a second instance as well.
	Hedged
)

// name returns the name of the flag at a position, "" where there is none.
func name(bit int) string {
	names := [...]string{
		"UH", "UF", "UO", "UT", "UR", "UPE", "NR", "URX", "DC", "DPE", "DT", "DI", "WI", "NL", "TF",
		"CA", "CU", "FO", "PM", "DR", "CT", "HG",
	}
	if bit >= len(names) {
		return ""
	}
	return names[bit]
}

// String returns the names separated by commas; "" if there is no flag.
func (f Flags) String() string {
	var b strings.Builder
	f.each(func(name string) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(name)
	})
	return b.String()
}

// FlagNames returns the names of all flags.
func FlagNames() []string {
	var names []string
	Flags(^uint32(0)).each(func(name string) { names = append(names, name) })
	return names
}

// each calls do with the name of every flag that is set.
func (f Flags) each(do func(name string)) {
	for bit := 0; f>>bit != 0; bit++ {
		if f>>bit&1 != 0 && name(bit) != "" {
			do(name(bit))
		}
	}
}
