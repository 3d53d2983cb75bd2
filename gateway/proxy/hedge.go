package proxy

import (
	"context"
	"time"

	"sluice/gateway/accesslog"
	"sluice/gateway/balance"
	"sluice/gateway/hedge"
)

// hedgeDelay is how long the first attempt waits before a second instance is
// asked as well; 0 is never.
func (x *exchange) hedgeDelay() time.Duration {
	if x.plan.options.Hedge <= 0 || len(x.attempts) > 0 || len(x.plan.members) < 2 {
		return 0
	}
	delay, _ := x.plan.hedge().Delay(hedge.Request{Method: x.method, Body: x.hasBody})
	return delay
}

// racing is a request that may be under way to two instances.
type racing[R any] struct {
	*Proxy
	x       *exchange
	c       carrier[R]
	delay   time.Duration
	results chan tried[R]
	cancels []context.CancelFunc
	out     int
}

// race sends the request to one instance, and after the delay to a second one as
// well. The first answer counts, and the other attempt is given up, which says
// nothing about its instance. Nothing is under way any more when it returns.
func (r *racing[R]) race(ctx context.Context, pick balance.Pick, m *member) tried[R] {
	p, x := r.Proxy, r.x
	x.forwardedFor() // worked out once, before two attempts ask for it
	r.results = make(chan tried[R])
	r.start(ctx, pick, m)
	timer := time.NewTimer(r.delay)
	defer timer.Stop()
	var last tried[R]
	for r.out > 0 {
		select {
		case last = <-r.results:
			r.out--
			x.attempts = append(x.attempts, last.attempt)
			if last.err == nil {
				r.giveUp(last)
				return last
			}
		case <-timer.C:
			waiting := hedge.Waiting{Attempts: r.out, Another: len(x.tried) < len(x.plan.members)}
			if ok, _ := hedge.Decide(p.now(), waiting, x.budget(r.Proxy)); !ok {
				continue
			}
			if second, other, err := p.pick(x, p.now()); err == nil {
				p.metrics.hedges.Inc()
				x.flags |= accesslog.Hedged
				r.start(ctx, second, other)
			}
		}
	}
	for _, cancel := range r.cancels {
		cancel()
	}
	return last
}

func (r *racing[R]) start(ctx context.Context, pick balance.Pick, m *member) {
	ctx, cancel := context.WithCancel(ctx)
	hedged := len(r.cancels) > 0
	number := len(r.cancels)
	r.cancels = append(r.cancels, cancel)
	r.out++
	go func() {
		t := r.guarded(ctx, pick, m)
		t.cancel, t.hedge, t.number = cancel, hedged, number
		r.results <- t
	}()
}

// guarded is once whose panic is an attempt that failed, and says nothing about the
// instance. The pick is released by then.
func (r *racing[R]) guarded(ctx context.Context, pick balance.Pick, m *member) (t tried[R]) {
	began := r.now()
	defer func() {
		if failure := recover(); failure != nil {
			t = tried[R]{pick: pick, attempt: attempt{member: m, began: began, took: r.now().Sub(began), outcome: balance.Canceled}}
			t.err = wrap(m, r.Panicked(failure))
		}
	}()
	return once(ctx, r.Proxy, r.c, begun[R](pick, m, began))
}

// giveUp ends whatever is under way beside the winner.
func (r *racing[R]) giveUp(winner tried[R]) {
	for i, cancel := range r.cancels {
		if i != winner.number {
			cancel()
		}
	}
	for ; r.out > 0; r.out-- {
		loser := <-r.results
		r.x.attempts = append(r.x.attempts, loser.attempt)
		if loser.err == nil {
			r.c.drop(loser.sent.answer)
			loser.pick.Release()
		}
	}
}
