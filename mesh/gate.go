package mesh

import (
	"container/list"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// handshake is one inbound connection before it is accepted.
type handshake struct {
	raw   net.Conn
	start time.Time
	// greeted says that a ClientHello has arrived. Such a peer may merely wait for
	// a busy processor, theirs or ours, and gets twice the grace.
	greeted atomic.Bool
	evicted atomic.Bool

	// element is the place among those that may be evicted; nil without one.
	element *list.Element
	// slotless says that the place has been given to another handshake.
	slotless bool
}

// gate bounds the handshakes in flight. When it is full, the oldest one that has
// had its grace makes room; until there is one, nobody enters.
type gate struct {
	max   int
	grace time.Duration
	freed chan struct{}

	mu    sync.Mutex
	taken int
	// waiting holds the *handshake that may be evicted, oldest first.
	waiting *list.List
}

func newGate(limit int, grace time.Duration) *gate {
	return &gate{max: limit, grace: grace, freed: make(chan struct{}, 1), waiting: list.New()}
}

// enter waits for a place for h, until ctx ends. It returns the handshake that
// had to make room, if one had to; its connection is reset.
func (g *gate) enter(ctx context.Context, h *handshake) (*handshake, error) {
	for {
		victim, entered, wait := g.tryEnter(h)
		if entered {
			if victim != nil {
				reset(victim.raw)
			}
			return victim, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-g.freed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

func (g *gate) tryEnter(h *handshake) (victim *handshake, entered bool, wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if g.taken < g.max {
		g.taken++
	} else {
		victim, wait = g.victim(now)
		if victim == nil {
			return nil, false, wait
		}
		g.waiting.Remove(victim.element)
		victim.element, victim.slotless = nil, true
		victim.evicted.Store(true)
	}
	h.start = now
	h.element = g.waiting.PushBack(h)
	return victim, true, 0
}

// victim returns who has to go, or how long it takes until somebody may have to:
// the oldest that has not even greeted, else the oldest.
func (g *gate) victim(now time.Time) (*handshake, time.Duration) {
	var oldest *handshake
	wait := g.grace
	for e := g.waiting.Front(); e != nil; e = e.Next() {
		h := e.Value.(*handshake)
		age := now.Sub(h.start)
		switch {
		case age < g.grace:
			return oldest, min(wait, g.grace-age)
		case !h.greeted.Load():
			return h, 0
		case age < 2*g.grace:
			wait = min(wait, 2*g.grace-age)
		case oldest == nil:
			oldest = h
		}
	}
	return oldest, wait
}

// settle ends h's risk of eviction: the handshake is over. It keeps its place
// until leave. false means that it is too late.
func (g *gate) settle(h *handshake) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h.element != nil {
		g.waiting.Remove(h.element)
		h.element = nil
	}
	return !h.slotless
}

// leave gives h's place back.
func (g *gate) leave(h *handshake) {
	g.mu.Lock()
	if h.element != nil {
		g.waiting.Remove(h.element)
		h.element = nil
	}
	if !h.slotless {
		h.slotless = true
		g.taken--
	}
	g.mu.Unlock()
	select {
	case g.freed <- struct{}{}:
	default:
	}
}
