package mesh

import (
	"sync"
	"time"
)

// watchIdle cuts c once no byte has moved for limit, at the latest half as much
// later. It looks at the counters now and then, so that it costs nothing per
// byte. The function that it returns ends the watch.
func watchIdle(c *Conn, limit time.Duration) (stop func()) {
	w := &idleWatch{conn: c, limit: limit, since: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(limit/2, w.look)
	return w.stop
}

type idleWatch struct {
	conn  *Conn
	limit time.Duration

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
	seen    uint64
	since   time.Time
}

func (w *idleWatch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	now := time.Now()
	if moved := w.conn.in.Load() + w.conn.out.Load(); moved != w.seen {
		w.seen, w.since = moved, now
	}
	if now.Sub(w.since) >= w.limit {
		w.conn.Cut("idle")
		return
	}
	w.timer.Reset(w.limit / 2)
}

func (w *idleWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}
