package blog

import (
	"context"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
)

// maxConnections bounds what is remembered; a pool has at most 100 connections.
const maxConnections = 512

// trace notes the connection that served the newest operation of a context.
type trace struct {
	mu         sync.Mutex
	connection string
}

type traceKey struct{}

// Traced returns a context whose operations note who serves them, for Member.
func Traced(ctx context.Context) context.Context {
	return context.WithValue(ctx, traceKey{}, &trace{})
}

func traceOf(ctx context.Context) *trace {
	t, _ := ctx.Value(traceKey{}).(*trace)
	return t
}

func (t *trace) set(connection string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.connection = connection
}

func (t *trace) get() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.connection
}

// members knows which member of the set is at the end of each connection. The
// connections behind one way may lead to different ones, so that the way's newest
// does not tell.
type members struct {
	mu    sync.Mutex
	names map[string]string // by the driver's ID of the connection
}

func (m *members) of(connection string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.names[connection]
}

func (m *members) learn(connection, member string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names == nil || len(m.names) >= maxConnections {
		m.names = map[string]string{} // what is in use is learnt again
	}
	m.names[connection] = member
}

// both tells two monitors; the second may be nil.
func both(first, second *event.CommandMonitor) *event.CommandMonitor {
	if second == nil {
		return first
	}
	return &event.CommandMonitor{
		Started: func(ctx context.Context, e *event.CommandStartedEvent) {
			first.Started(ctx, e)
			second.Started(ctx, e)
		},
		Succeeded: func(ctx context.Context, e *event.CommandSucceededEvent) {
			first.Succeeded(ctx, e)
			second.Succeeded(ctx, e)
		},
		Failed: func(ctx context.Context, e *event.CommandFailedEvent) {
			first.Failed(ctx, e)
			second.Failed(ctx, e)
		},
	}
}

// monitor notes that a command is sent and how long it took, the connection of each
// traced operation and what a hello says.
func (m *members) monitor() *event.CommandMonitor {
	return &event.CommandMonitor{Started: func(ctx context.Context, _ *event.CommandStartedEvent) {
		noteSent(ctx)
	}, Failed: func(ctx context.Context, e *event.CommandFailedEvent) {
		noteSpent(ctx, e.Duration)
	}, Succeeded: func(ctx context.Context, e *event.CommandSucceededEvent) {
		noteSpent(ctx, e.Duration)
		if t := traceOf(ctx); t != nil {
			t.set(e.ConnectionID)
		}
		if e.CommandName != "hello" {
			return
		}
		var hello struct {
			Me string `bson:"me"`
		}
		if err := bson.Unmarshal(e.Reply, &hello); err == nil && hello.Me != "" {
			m.learn(e.ConnectionID, hello.Me)
		}
	}}
}

// Member returns the member of the replica set that served the newest operation of
// ctx, which Traced made, as "host:port". It is "" when that cannot be told. It may
// ask the database once for each connection.
func (s *Store) Member(ctx context.Context) string {
	t := traceOf(ctx)
	if t == nil || t.get() == "" {
		return ""
	}
	connection := t.get()
	if known := s.members.of(connection); known != "" {
		return known
	}
	// The pool hands out what came back last: usually the connection in question.
	_, _ = s.Hello(ctx)
	return s.members.of(connection)
}
