package proxy

import (
	"sync"
	"time"
)

// clock bounds the time until the head of an answer. It begins anew with each
// piece of the request's body, and ends with the answer, whose body may take
// longer.
type clock struct {
	mu      sync.Mutex
	timer   *time.Timer
	timeout time.Duration
	stopped bool
}

// startClock starts a clock; without a timeout it never ends.
func startClock(timeout time.Duration, over func()) *clock {
	if timeout == 0 {
		return &clock{stopped: true}
	}
	return &clock{timer: time.AfterFunc(timeout, over), timeout: timeout}
}

func (c *clock) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.timer.Reset(c.timeout)
	}
}

// stop reports whether the time was not over.
func (c *clock) stop() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return true
	}
	c.stopped = true
	return c.timer.Stop()
}
