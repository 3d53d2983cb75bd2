package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"sluice/gateway/balance"
)

// errStopped is the end of a dial because the gateway stops.
var errStopped = errors.New("the gateway stops")

// dials are the connections that are being made to instances beside the requests
// that want them. Such a dial goes on when its request has left, for as long as a
// dial may take: an instance whose network is gone would otherwise never count as
// failed where clients are less patient than the dial. Run waits for all of them.
type dials struct {
	ctx  context.Context //nolint:containedctx // it ends with Run, and the dials with it
	stop context.CancelFunc

	mu      sync.Mutex // guards over, and that nobody enters behind it
	over    bool
	running sync.WaitGroup
}

func newDials() *dials {
	ctx, stop := context.WithCancel(context.Background())
	return &dials{ctx: ctx, stop: stop}
}

// enter begins a dial; its context has the values of ctx, and ends with it or with
// the gateway. leave has to be called at its end.
func (d *dials) enter(ctx context.Context) (dial context.Context, leave func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return nil, nil, errStopped
	}
	d.running.Add(1)
	dial, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(d.ctx, func() { cancel(errStopped) })
	return dial, func() {
		unhook()
		cancel(nil)
		d.running.Done()
	}, nil
}

// end ends the dials and waits for them.
func (d *dials) end() {
	d.mu.Lock()
	d.over = true
	d.mu.Unlock()
	d.stop()
	d.running.Wait()
}

// pending is the dial of one attempt, which may outlive it. It is safe for
// concurrent use.
type pending struct {
	mu      sync.Mutex
	dialing bool
	// tell is told how the dial has ended, once the attempt has left.
	tell func(error)
}

type pendingKey struct{}

func (w *pending) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dialing = true
}

func (w *pending) end(err error) {
	w.mu.Lock()
	w.dialing = false
	tell := w.tell
	w.mu.Unlock()
	if tell != nil {
		tell(err)
	}
}

// underWay reports whether the dial has not ended.
func (w *pending) underWay() bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dialing
}

// leave hands the dial over to tell. false means that there is none under way.
func (w *pending) leave(tell func(error)) bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dialing {
		w.tell = tell
	}
	return w.dialing
}

// dialPending is dial for net/http, which goes on with it whatever becomes of the
// request; who that is, ctx knows.
func (p *Proxy) dialPending(ctx context.Context, t *target, m manner) (conn net.Conn, err error) {
	w, ok := ctx.Value(pendingKey{}).(*pending)
	if !ok {
		w = &pending{}
	}
	ctx, leave, err := p.dials.enter(ctx)
	if err != nil {
		return nil, &dialError{err}
	}
	defer leave()
	w.begin()
	defer func() { w.end(err) }()
	if conn, err = p.dialGuarded(ctx, t, m); err != nil {
		return nil, err
	}
	return &guardedConn{conn, p.Panicked}, nil
}

// dialApart is dial for an attempt that may be given up: it returns when ctx ends,
// and the dial goes on by itself unless it was its time that has passed.
func (p *Proxy) dialApart(ctx context.Context, w *pending, t *target, m manner) (net.Conn, error) {
	dialing, leave, err := p.dials.enter(context.WithoutCancel(ctx))
	if err != nil {
		return nil, &dialError{err}
	}
	dialing, cancel := context.WithCancel(dialing)
	type result struct {
		conn net.Conn
		err  error
	}
	ended := make(chan result)
	w.begin()
	go func() {
		defer leave()
		defer cancel()
		conn, err := p.dialGuarded(dialing, t, m)
		select {
		case ended <- result{conn, err}:
		case <-ctx.Done():
			if conn != nil {
				_ = conn.Close()
			}
		}
		w.end(err)
	}()
	select {
	case r := <-ended:
		return r.conn, r.err
	case <-ctx.Done():
		if cause := context.Cause(ctx); isTimeout(cause) {
			cancel()
		}
		return nil, &dialError{context.Cause(ctx)}
	}
}

// dialGuarded is dial in a goroutine that is not the request's, and whose panic ends
// the request alone.
func (p *Proxy) dialGuarded(ctx context.Context, t *target, m manner) (conn net.Conn, err error) {
	defer func() {
		if failure := recover(); failure != nil {
			conn, err = nil, &dialError{p.Panicked(failure)}
		}
	}()
	return p.dial(ctx, t, m)
}

// abandon leaves the pick of an attempt that was given up to the dial that it waited
// for, which counts if it fails. false means that there is no such dial.
func (p *Proxy) abandon(w *pending, pick balance.Pick, began time.Time) bool {
	return w.leave(func(err error) {
		defer pick.Release()
		if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, errStopped) {
			return // whether it would have answered is not known
		}
		now := p.now()
		pick.Report(now, outcomeOf(context.Background(), 0, false, err), now.Sub(began))
	})
}
