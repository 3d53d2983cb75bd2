package proxy

import (
	"net/http"
	"sync/atomic"
)

// wire is the connections to one instance in one manner: a set for each codec.
type wire struct {
	manner manner
	// std is replaced when the credentials are: connections of the old one that are
	// in use finish, and then serve nobody else.
	std  atomic.Pointer[http.Transport]
	make func() *http.Transport
	own  idle
	// gone says that the instance is no more.
	gone atomic.Bool
}

// wire returns the target's connections in a manner. Only Run calls it.
func (p *Proxy) wire(t *target, m manner) *wire {
	if w := t.wires[m]; w != nil {
		return w
	}
	w := &wire{manner: m, make: func() *http.Transport { return p.transport(t, m) }}
	w.own.keep, w.own.most = p.cfg.KeepAlive, p.cfg.IdleConns
	w.std.Store(w.make())
	t.wires[m] = w
	return w
}

// closeIdle closes what carries no request.
func (w *wire) closeIdle() {
	w.std.Load().CloseIdleConnections()
	w.own.clear(false)
}

// retire lets connections that exist serve what they carry, and no more.
func (w *wire) retire() {
	w.std.Swap(w.make()).CloseIdleConnections()
	w.own.clear(true)
}

// end closes what carries no request, and the rest after it: the instance is gone.
func (w *wire) end() {
	w.gone.Store(true)
	w.std.Load().CloseIdleConnections()
	w.own.finish()
}

// release follows a request over used. One that had an older table, or older
// credentials, may have made net/http keep connections again that nobody needs.
func (w *wire) release(used *http.Transport) {
	if w.gone.Load() || w.std.Load() != used {
		used.CloseIdleConnections()
	}
}
