package proxy

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"sluice/gateway/accesslog"
	"sluice/gateway/balance"
	"sluice/internal/service/mask"
)

const (
	// historySize is how many of the last requests can be explained.
	historySize = 1024
	// failedSize is how many of the last that failed are kept beside them: among many
	// that went well they would be forgotten at once.
	failedSize = 64
)

// Trace is what became of one request.
type Trace struct {
	ID     string        `json:"id"`
	At     time.Time     `json:"at"`
	Took   time.Duration `json:"took_ns"`
	Method string        `json:"method"`
	Host   string        `json:"host"`
	Path   string        `json:"path"`
	Client string        `json:"client"`
	Status int           `json:"status"`
	Route  string        `json:"route,omitempty"`
	// Flags are those of the access log, and Error says what went wrong.
	Flags    string         `json:"flags,omitempty"`
	Error    string         `json:"error,omitempty"`
	Attempts []AttemptTrace `json:"attempts"`
}

// AttemptTrace is one attempt of a request.
type AttemptTrace struct {
	Service  string        `json:"service"`
	Instance string        `json:"instance"`
	Node     string        `json:"node"`
	Address  string        `json:"address"`
	Began    time.Duration `json:"began_ns"`
	Took     time.Duration `json:"took_ns"`
	Outcome  string        `json:"outcome"`
	// Then says whether another attempt followed, and why or why not.
	Then  string `json:"then,omitempty"`
	Hedge bool   `json:"hedge,omitempty"`
	Error string `json:"error,omitempty"`
	// Serial is that of the leaf that the gateway showed, hexadecimal; "" if it showed
	// none.
	Serial string `json:"serial,omitempty"`
}

// history keeps the last requests. What it keeps of one is copied only when it is
// asked for, so that a request costs little.
type history struct {
	mu   sync.Mutex
	next int
	ring []record
	mask mask.Mask
}

// record holds bytes of its own: the strings of an exchange may point into a
// buffer. They are used again for the next request in its place.
type record struct {
	id                 string
	text               []byte
	method, host, path int // their lengths in text
	at                 time.Time
	took               time.Duration
	client             netip.Addr
	status             int
	plan               *plan
	err                error
	why                string
	flags              accesslog.Flags
	attempts           []attempt
}

func newHistory(size int, mask mask.Mask) *history {
	return &history{ring: make([]record, size), mask: mask}
}

// put takes a request that has ended.
func (h *history) put(x *exchange, status int, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &h.ring[h.next]
	h.next = (h.next + 1) % len(h.ring)
	r.id, r.at, r.took, r.status, r.plan, r.err = x.id, x.started, now.Sub(x.started), status, x.plan, x.err
	r.client, r.why, r.flags = x.client, x.why, x.allFlags()
	r.text = r.text[:0]
	r.method, r.host, r.path = r.keep(x.method), r.keep(x.host), r.keep(x.path)
	r.attempts = append(r.attempts[:0], x.attempts...)
}

// keep appends a text, or the beginning of a long one.
func (r *record) keep(s string) int {
	const longest = 512
	s = s[:min(len(s), longest)]
	r.text = append(r.text, s...)
	return len(s)
}

// find returns what became of a request, if it is not too long ago. It looks through
// all: that is rare, and an index would cost each request something.
func (h *history) find(id string) (Trace, bool) {
	if id == "" {
		return Trace{}, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	at := slices.IndexFunc(h.ring, func(r record) bool { return r.id == id })
	if at < 0 {
		return Trace{}, false
	}
	return h.ring[at].trace(h.mask), true
}

// last returns the newest n requests, the newest first.
func (h *history) last(n int) []Trace {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []Trace{}
	for i := 1; i <= min(n, len(h.ring)); i++ {
		r := &h.ring[(h.next-i+len(h.ring))%len(h.ring)]
		if r.id == "" {
			break
		}
		list = append(list, r.trace(h.mask))
	}
	return list
}

func (r *record) trace(mask mask.Mask) Trace {
	t := Trace{
		ID: r.id, At: r.at, Took: r.took, Client: r.client.String(), Status: r.status,
		Method: string(r.text[:r.method]), Host: string(r.text[r.method : r.method+r.host]), Path: mask.Target(string(r.text[r.method+r.host:])),
		Attempts: []AttemptTrace{},
	}
	if r.plan != nil {
		t.Route = r.plan.name
	}
	t.Flags, t.Error = r.flags.String(), r.why
	if r.err != nil {
		t.Error = r.err.Error()
	}
	for _, a := range r.attempts {
		i := a.member.target.instance
		trace := AttemptTrace{
			Service: a.member.target.service, Instance: i.ServiceID, Node: i.Node, Address: i.Address,
			Began: a.began.Sub(r.at), Took: a.took, Outcome: a.outcome.String(), Then: string(a.reason), Hedge: a.hedge, Serial: a.serial,
		}
		if a.outcome == balance.Canceled && a.err == nil {
			trace.Then = "another attempt was faster"
		}
		if a.err != nil {
			trace.Error = a.err.Error()
		}
		t.Attempts = append(t.Attempts, trace)
	}
	return t
}

// Trace returns what became of a recent request.
func (p *Proxy) Trace(id string) (Trace, bool) {
	if trace, ok := p.recent.find(id); ok {
		return trace, true
	}
	return p.failed.find(id)
}

// Recent returns the newest n requests, the newest first; at most 1024.
func (p *Proxy) Recent(n int) []Trace { return p.recent.last(n) }

// Failed returns the newest n requests that failed, the newest first; at most 64.
// Those whose client left are not among them.
func (p *Proxy) Failed(n int) []Trace { return p.failed.last(n) }
