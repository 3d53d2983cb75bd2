package blog

import (
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"
)

// Why an operation got no connection, for PoolStats.Failed.
const (
	PoolTimeout = "timeout"
	PoolError   = "connection_error"
	PoolClosed  = "pool_closed"
)

// PoolStats is the state of a pool of connections at one moment. What is counted
// never decreases.
type PoolStats struct {
	// Open are the connections there are, those that are being made included; InUse
	// are those that operations have.
	Open, InUse int64
	// Created and Closed count connections, Cleared how often all were given up
	// because one had failed.
	Created, Closed, Cleared uint64
	// Failed counts, by PoolTimeout, PoolError and PoolClosed, the operations that got
	// no connection.
	Failed map[string]uint64
}

// pool counts what a pool tells of itself.
type pool struct {
	open, inUse                           atomic.Int64
	created, closed, cleared              atomic.Uint64
	failedTimeout, failedError, failedEnd atomic.Uint64
	waited                                func(time.Duration)
}

// monitor returns what the driver calls, from any goroutine.
func (p *pool) monitor() *event.PoolMonitor { return &event.PoolMonitor{Event: p.note} }

func (p *pool) note(e *event.PoolEvent) {
	switch e.Type {
	case event.ConnectionCreated:
		p.open.Add(1)
		p.created.Add(1)
	case event.ConnectionClosed:
		p.open.Add(-1)
		p.closed.Add(1)
	case event.ConnectionPoolCleared:
		p.cleared.Add(1)
	case event.ConnectionCheckedOut:
		p.inUse.Add(1)
		if p.waited != nil {
			p.waited(e.Duration)
		}
	case event.ConnectionCheckedIn:
		p.inUse.Add(-1)
	case event.ConnectionCheckOutFailed:
		switch e.Reason {
		case event.ReasonTimedOut:
			p.failedTimeout.Add(1)
		case event.ReasonPoolClosed:
			p.failedEnd.Add(1)
		default:
			p.failedError.Add(1)
		}
	}
}

// Pool returns the state of the store's connections.
func (s *Store) Pool() PoolStats {
	p := s.pool
	return PoolStats{
		Open: p.open.Load(), InUse: p.inUse.Load(), Created: p.created.Load(), Closed: p.closed.Load(), Cleared: p.cleared.Load(),
		Failed: map[string]uint64{PoolTimeout: p.failedTimeout.Load(), PoolError: p.failedError.Load(), PoolClosed: p.failedEnd.Load()},
	}
}
