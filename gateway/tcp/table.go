package tcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrCut means that a connection was cut on purpose. The error around it gives
// the reason.
var ErrCut = errors.New("cut")

// ErrDrained means that a connection was cut because a stop waited no longer for it.
// There is ErrCut beside it.
var ErrDrained = errors.New("the gateway stops")

// Info describes one connection at one moment.
type Info struct {
	// ID is unique in its Table and never used again.
	ID uint64 `json:"id"`
	// Client is where the connection comes from and Server where it was accepted.
	Client netip.AddrPort `json:"client"`
	Server netip.AddrPort `json:"server"`
	// ServerName is what the client's hello asked for; "" on a listener that does
	// not look.
	ServerName string `json:"server_name,omitempty"`
	// Service and Instance are those of the Target; "" before there is one.
	Service  string    `json:"service,omitempty"`
	Instance string    `json:"instance,omitempty"`
	Since    time.Time `json:"since"`
	// BytesIn came from the client, BytesOut went to it. While the kernel moves
	// them they are up to a second behind.
	BytesIn  uint64 `json:"bytes_in"`
	BytesOut uint64 `json:"bytes_out"`
}

// Counters count what happened since the Table was made. They never decrease.
type Counters struct {
	// Accepted connections, all of them.
	Accepted uint64 `json:"accepted"`
	// Refused connections, beyond the listener's limit.
	Refused uint64 `json:"refused"`
	// Malformed hellos, late ones included.
	Malformed uint64 `json:"malformed"`
	// PassedOn to the fallback.
	PassedOn uint64 `json:"passed_on"`
	// NoRoute connections, for which there is no target.
	NoRoute uint64 `json:"no_route"`
	// Overflow connections, beyond the target's limit.
	Overflow uint64 `json:"overflow"`
	// DialFailed connections, for whatever reason, denials included.
	DialFailed uint64 `json:"dial_failed"`
	// Cut connections, for whatever reason; Idle ones are not among them.
	Cut  uint64 `json:"cut"`
	Idle uint64 `json:"idle"`
	// BytesIn and BytesOut are of the connections that have ended.
	BytesIn  uint64 `json:"bytes_in"`
	BytesOut uint64 `json:"bytes_out"`
}

type counters struct {
	accepted, refused, malformed, passedOn, noRoute atomic.Uint64
	overflow, dialFailed, cut, idle                 atomic.Uint64
	bytesIn, bytesOut                               atomic.Uint64
}

// Table holds the live TCP connections of all listeners that share it. It is safe
// for concurrent use.
type Table struct {
	now   func() time.Time
	count counters

	mu     sync.Mutex
	nextID uint64
	live   map[*connection]struct{}
	// of counts the connections of each instance.
	of map[string]int
}

// NewTable returns an empty Table. now tells the time; nil is time.Now.
func NewTable(now func() time.Time) *Table {
	if now == nil {
		now = time.Now
	}
	return &Table{now: now, live: map[*connection]struct{}{}, of: map[string]int{}}
}

// connection is one client's connection, from accept to end.
type connection struct {
	table  *Table
	client net.Conn
	// ctx ends when the connection is cut, with the reason as its cause.
	ctx  context.Context
	end  context.CancelCauseFunc
	in   atomic.Uint64
	out  atomic.Uint64
	info Info // BytesIn and BytesOut are not kept here

	// The rest, and what is in info of the target, is guarded by the table's lock.
	upstream net.Conn
	counted  bool
}

// Connections returns the live connections, oldest first.
func (t *Table) Connections() []Info {
	t.mu.Lock()
	infos := make([]Info, 0, len(t.live))
	for c := range t.live {
		infos = append(infos, c.snapshot())
	}
	t.mu.Unlock()
	slices.SortFunc(infos, func(a, b Info) int { return cmp.Compare(a.ID, b.ID) })
	return infos
}

// CutWhere resets at once both sides of every live connection that match selects,
// and returns how many. A connection that is still being dialled is cut as well.
// match must not block. Call it when an instance has become unhealthy, or its
// route is gone; see Target.Current for a connection that is just on its way.
func (t *Table) CutWhere(reason string, match func(Info) bool) int {
	n := 0
	for _, c := range t.connections() {
		t.mu.Lock()
		info := c.snapshot()
		t.mu.Unlock()
		if match(info) && c.cut(reason) {
			n++
		}
	}
	return n
}

// Counters returns the counters at this moment.
func (t *Table) Counters() Counters {
	c := &t.count
	return Counters{
		Accepted: c.accepted.Load(), Refused: c.refused.Load(), Malformed: c.malformed.Load(),
		PassedOn: c.passedOn.Load(), NoRoute: c.noRoute.Load(), Overflow: c.overflow.Load(),
		DialFailed: c.dialFailed.Load(), Cut: c.cut.Load(), Idle: c.idle.Load(),
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
	}
}

func (t *Table) connections() []*connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*connection, 0, len(t.live))
	for c := range t.live {
		all = append(all, c)
	}
	return all
}

// add registers a connection that was just accepted.
func (t *Table) add(ctx context.Context, client net.Conn) *connection {
	c := &connection{table: t, client: client}
	c.ctx, c.end = context.WithCancelCause(ctx)
	c.info = Info{Client: addressOf(client.RemoteAddr()), Server: addressOf(client.LocalAddr()), Since: t.now()}
	t.count.accepted.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nextID++
	c.info.ID = t.nextID
	t.live[c] = struct{}{}
	return c
}

// remove takes the connection out and returns its last state.
func (t *Table) remove(c *connection) Info {
	c.end(nil)
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.live[c]; ok {
		delete(t.live, c)
		t.count.bytesIn.Add(c.in.Load())
		t.count.bytesOut.Add(c.out.Load())
	}
	if c.counted {
		c.counted = false
		if t.of[c.info.Instance]--; t.of[c.info.Instance] == 0 {
			delete(t.of, c.info.Instance)
		}
	}
	return c.snapshot()
}

// assign gives the connection its target, and reports false if the target has as
// many as it may have.
func (c *connection) assign(target Target) bool {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	c.info.Service, c.info.Instance = target.Service, target.Instance
	if target.Limit > 0 && c.table.of[target.Instance] >= target.Limit {
		return false
	}
	c.table.of[target.Instance]++
	c.counted = true
	return true
}

func (c *connection) named(name string) {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	c.info.ServerName = name
}

// join gives the connection its other side. If it was cut meanwhile, that side is
// reset and the reason returned.
func (c *connection) join(upstream net.Conn) error {
	c.table.mu.Lock()
	err := context.Cause(c.ctx)
	if err == nil {
		c.upstream = upstream
	}
	c.table.mu.Unlock()
	if err != nil {
		reset(upstream) // without the lock: it may take its time
	}
	return err
}

// cut resets both sides and reports whether the connection was still alive.
func (c *connection) cut(reason string) bool {
	c.table.mu.Lock()
	alive := c.ctx.Err() == nil
	c.end(fmt.Errorf("%w: %s", ErrCut, reason))
	c.table.mu.Unlock()
	if alive {
		c.reset()
	}
	return alive
}

// reset resets whatever sides there are.
func (c *connection) reset() {
	c.table.mu.Lock()
	upstream := c.upstream
	c.table.mu.Unlock()
	reset(c.client)
	if upstream != nil {
		reset(upstream)
	}
}

// snapshot needs the table's lock.
func (c *connection) snapshot() Info {
	info := c.info
	info.BytesIn, info.BytesOut = c.in.Load(), c.out.Load()
	return info
}

// addressOf returns the address in addr in its plain form, or the zero AddrPort.
func addressOf(addr net.Addr) netip.AddrPort {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		a := tcp.AddrPort()
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	return netip.AddrPort{}
}
