package proxy

import (
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// countedBody is a client's body: it counts what was read of it, bounds how slowly
// it comes, and can be ended while it is waited for.
type countedBody struct {
	io.ReadCloser
	client *http.ResponseController
	// n is read when the exchange ends, while net/http may still read the body.
	n atomic.Int64
	// moved is called for each piece: the time for an answer counts from the last.
	moved func()
	// idle bounds the wait for a piece; 0 is no bound.
	idle  time.Duration
	armed time.Time
	pace  pace
	// reading and over say that a Read is going on, and that none may begin.
	reading, over atomic.Bool

	mu sync.Mutex
	// done is true once the handler has returned: client must not be used any more, and
	// goroutines of net/http may still read.
	done bool
}

func countBody(body io.ReadCloser, client *http.ResponseController) io.ReadCloser {
	if body == nil || body == http.NoBody {
		return body
	}
	return &countedBody{ReadCloser: body, client: client}
}

// bound makes Read fail when the client is silent for longer than idle, or slower
// than least bytes per second; 0 is no bound.
func (b *countedBody) bound(idle time.Duration, least int64) {
	b.idle, b.pace = idle, pace{least: least, since: time.Now()}
}

func (b *countedBody) Read(p []byte) (int, error) {
	b.reading.Store(true)
	defer b.reading.Store(false)
	now := time.Now()
	if b.idle > 0 && now.Sub(b.armed) > b.idle/4 {
		if err := b.deadline(now.Add(b.idle)); err != nil {
			return 0, err
		}
		b.armed = now
	}
	if b.over.Load() { // asked after the deadline was moved, which undoes stop
		return 0, os.ErrDeadlineExceeded
	}
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	if b.moved != nil && n > 0 {
		b.moved()
	}
	if err == nil && b.pace.slow(n, now) {
		err = os.ErrDeadlineExceeded
	}
	if err != nil && b.idle > 0 && !b.over.Load() {
		// net/http reads on behind the body, to learn whether the client leaves.
		_ = b.deadline(time.Time{})
		b.idle = 0
	}
	return n, err
}

// stop ends a Read in another goroutine, and lets none begin. A stream of HTTP/2
// whose instance is gone would otherwise wait for its client to say something.
func (b *countedBody) stop() {
	b.over.Store(true)
	if b.reading.Load() {
		_ = b.deadline(time.Unix(1, 0))
	}
}

// finish is called when the handler returns.
func (b *countedBody) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = true
}

// deadline moves the deadline for reading from the client, while there is a handler.
func (b *countedBody) deadline(at time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		return os.ErrDeadlineExceeded
	}
	return b.client.SetReadDeadline(at)
}

func counted(body io.ReadCloser) int64 {
	if c, ok := body.(*countedBody); ok {
		return c.n.Load()
	}
	return 0
}
