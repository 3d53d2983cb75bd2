package mesh

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/identity"
)

// Edge is a directed pair of identities: who calls whom.
type Edge struct {
	Source      identity.ID `json:"source"`
	Destination identity.ID `json:"destination"`
}

// ConnectionInfo describes one live connection at one moment.
type ConnectionInfo struct {
	// ID is unique in its Table and never used again.
	ID uint64 `json:"id"`
	Edge
	// Inbound is true where this process is the destination.
	Inbound bool `json:"inbound"`
	// Remote is the peer's "host:port".
	Remote string    `json:"remote"`
	Since  time.Time `json:"since"`
	// PeerSerial and LocalSerial are the serial numbers of the peer's leaf and of the one
	// that this side has shown, hexadecimal.
	PeerSerial  string `json:"peer_serial"`
	LocalSerial string `json:"local_serial"`
	// PeerNotAfter is when the peer's leaf expires and the connection is cut.
	PeerNotAfter time.Time `json:"peer_not_after"`
	// BytesIn and BytesOut count application bytes, without TLS overhead.
	BytesIn  uint64 `json:"bytes_in"`
	BytesOut uint64 `json:"bytes_out"`
}

// Counters count what happened since the Table was made. They never decrease.
type Counters struct {
	// Accepted inbound connections: handshaken and authorized.
	Accepted uint64 `json:"accepted"`
	// Denied inbound connections: a believable peer that may not call us.
	Denied uint64 `json:"denied"`
	// HandshakeFailed inbound connections: no TLS, no or wrong certificate, too
	// slow, or we were not ready.
	HandshakeFailed uint64 `json:"handshake_failed"`
	// Evicted inbound connections: handshakes that had to make room for others.
	Evicted uint64 `json:"evicted"`
	// AcceptErrors of the listening socket, for example no free descriptor.
	AcceptErrors uint64 `json:"accept_errors"`
	// Dialled outbound connections: established and confirmed.
	Dialled uint64 `json:"dialled"`
	// DialDenied outbound connections, by our own policy or by the destination.
	DialDenied uint64 `json:"dial_denied"`
	// DialFailed attempts to reach one instance.
	DialFailed uint64 `json:"dial_failed"`
	// Cut live connections, both directions, for whatever reason.
	Cut uint64 `json:"cut"`
	// CutDenied are those of Cut that a change of intentions caused.
	CutDenied uint64 `json:"cut_denied"`
}

type counters struct {
	accepted, denied, handshakeFailed, evicted, acceptErrors atomic.Uint64
	dialled, dialDenied, dialFailed, cut, cutDenied          atomic.Uint64
}

// Table holds the live connections of one process, of all edges and both
// directions. It is safe for concurrent use.
type Table struct {
	now     func() time.Time
	count   counters
	buffers sync.Pool

	mu     sync.Mutex
	nextID uint64
	live   map[*Conn]struct{}
}

// NewTable returns an empty Table. now tells the time; nil is time.Now.
func NewTable(now func() time.Time) *Table {
	if now == nil {
		now = time.Now
	}
	return &Table{
		now:     now,
		live:    make(map[*Conn]struct{}),
		buffers: sync.Pool{New: newCopyBuffer},
	}
}

// Connections returns the live connections, oldest first.
func (t *Table) Connections() []ConnectionInfo {
	conns := t.conns(nil)
	infos := make([]ConnectionInfo, 0, len(conns))
	for _, c := range conns {
		infos = append(infos, c.Info())
	}
	slices.SortFunc(infos, func(a, b ConnectionInfo) int { return cmp.Compare(a.ID, b.ID) })
	return infos
}

// Counters returns the counters at this moment.
func (t *Table) Counters() Counters {
	return Counters{
		Accepted:        t.count.accepted.Load(),
		Denied:          t.count.denied.Load(),
		HandshakeFailed: t.count.handshakeFailed.Load(),
		Evicted:         t.count.evicted.Load(),
		AcceptErrors:    t.count.acceptErrors.Load(),
		Dialled:         t.count.dialled.Load(),
		DialDenied:      t.count.dialDenied.Load(),
		DialFailed:      t.count.dialFailed.Load(),
		Cut:             t.count.cut.Load(),
		CutDenied:       t.count.cutDenied.Load(),
	}
}

// CutWhere resets at once every live connection that match selects, and returns
// how many. The reason is what the connection's own Read and Write say from then
// on. match must not block.
func (t *Table) CutWhere(reason string, match func(ConnectionInfo) bool) int {
	n := 0
	for _, c := range t.conns(nil) {
		if match(c.Info()) && c.cut(reason) {
			n++
		}
	}
	return n
}

// add registers c and gives it its ID.
func (t *Table) add(c *Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nextID++
	c.id = t.nextID
	t.live[c] = struct{}{}
}

func (t *Table) remove(c *Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.live, c)
}

// conns returns the live connections that owner made, or all if owner is nil.
func (t *Table) conns(owner any) []*Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*Conn, 0, len(t.live))
	for c := range t.live {
		if owner == nil || c.owner == owner {
			out = append(out, c)
		}
	}
	return out
}
