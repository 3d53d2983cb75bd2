package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
)

// errPanic is the end of a request by a fault of this program.
var errPanic = errors.New("a fault of the gateway")

// Panicked counts and logs a panic that was recovered, and says in an error what it
// was. A panic that nobody recovers ends the process, and with it every request of
// everybody; so whatever is started for one request or connection recovers its own.
// Call it in the deferred function that recovers, so that the stack is that of the
// panic. It is safe for concurrent use.
func (p *Proxy) Panicked(failure any) error {
	p.metrics.panics.Inc()
	p.log.Error("a request has ended in a panic", "panic", failure, "stack", string(debug.Stack()))
	return fmt.Errorf("%w: %v", errPanic, failure)
}

// rescue is deferred by a handler of net/http: a panic is answered with 500, or
// breaks off the answer that has begun.
func (p *Proxy) rescue(w *statusRecorder, r *http.Request) {
	failure := recover()
	if failure == nil {
		return
	}
	if failure == http.ErrAbortHandler && w.x.err == nil {
		w.x.err = cmp.Or(w.x.broke, errClientGone)
	}
	if failure != http.ErrAbortHandler {
		w.x.err = p.Panicked(failure)
		if w.x.held != nil {
			_ = w.x.held.Close() // ReverseProxy leaves it open then
		}
		if w.status < 200 {
			answer := pageFault()
			p.writeStd(&answer, w, r)
			return
		}
	}
	panic(http.ErrAbortHandler)
}

// fault is why half a request is all that an instance has got; nil if it has not. It may
// answer that before it sees its connection closed.
func (u *upload) fault() error {
	if u == nil {
		return nil
	}
	if broken := u.broken.Load(); broken != nil {
		return *broken
	}
	return nil
}

func pageFault() page {
	return page{
		Status: http.StatusInternalServerError, Title: "The gateway failed",
		Reason: "A fault of the gateway has ended this request.", Hint: "Its log has the stack.",
	}
}
