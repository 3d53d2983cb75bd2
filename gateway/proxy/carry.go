package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/gateway/balance"
	"sluice/gateway/h1"
	"sluice/gateway/retry"
	"sluice/mesh"
)

const (
	// settle is how long a refusal by a destination is questioned while our own
	// snapshot allows the call: on a change of an intention the two ends learn
	// of it some milliseconds apart.
	settle      = 300 * time.Millisecond
	settleEvery = 25 * time.Millisecond
	// probeTimeout bounds the dial that finds out why a connection broke.
	probeTimeout = time.Second
)

// errTimeout is the end of a request's time.
var errTimeout = errors.New("no answer in time")

// sent is what became of sending a request to one instance.
type sent[R any] struct {
	answer R
	status int
	// deferred is true for an answer that says when to come back.
	deferred bool
	// progress says how far it got, if err is not nil.
	progress retry.Progress
	err      error
	// serial is the number of the leaf that the gateway showed; "" where it showed none.
	serial string
	// pending is the dial that the attempt may have waited for.
	pending *pending
}

// carrier sends one request, in one codec.
type carrier[R any] interface {
	// send carries the request to an instance up to the head of its answer. Two may
	// be under way at a time, if the request is hedged.
	send(ctx context.Context, m *member, now time.Time) sent[R]
	// drop gives up an answer that nobody reads.
	drop(answer R)
	// spent reports whether the client's body was read from and is not kept.
	spent() bool
	// bound is ctx with the time that the request has, for what is done beside sending.
	bound(ctx context.Context) (context.Context, context.CancelFunc)
}

// carried is an answer with the attempt that holds it: end it with its body.
type carried[R any] struct {
	answer R
	pick   balance.Pick
	member *member
	cancel context.CancelFunc
}

// end lets go of the instance.
func (c carried[R]) end() {
	c.pick.Release()
	if c.cancel != nil {
		c.cancel()
	}
}

// carry sends a request to an instance of its plan, and to others while that is
// harmless and the budget lasts.
func carry[R any](ctx context.Context, p *Proxy, x *exchange, c carrier[R]) (carried[R], error) {
	x.budget(p).Request(x.started)
	for {
		now := p.now()
		pick, m, err := p.pick(x, now)
		if err != nil && len(x.attempts) > 0 && !errors.Is(err, balance.ErrOverflow) && another(ctx, p, x, c) {
			continue
		}
		if err != nil {
			return carried[R]{}, x.last(err)
		}
		var t tried[R]
		if delay := x.hedgeDelay(); delay > 0 {
			t = (&racing[R]{Proxy: p, x: x, c: c, delay: delay}).race(ctx, pick, m)
		} else {
			t = once(ctx, p, c, begun[R](pick, m, now))
			x.attempts = append(x.attempts, t.attempt)
		}
		x.answered = t.member
		if t.err == nil {
			x.picked(t.pick)
			if x.plan.options.Hedge > 0 {
				x.plan.recent.Observe(t.took)
			}
			return carried[R]{t.sent.answer, t.pick, t.member, t.cancel}, nil
		}
		if !p.again(ctx, x, t.sent.progress, t.outcome, c.spent()) && !another(ctx, p, x, c) {
			return carried[R]{}, x.last(t.err)
		}
	}
}

// tried is one attempt and what it brought.
type tried[R any] struct {
	attempt
	sent   sent[R]
	pick   balance.Pick
	cancel context.CancelFunc
	// number is its place among the attempts of a race.
	number int
}

// begun is an attempt that is about to be made.
func begun[R any](pick balance.Pick, m *member, now time.Time) tried[R] {
	return tried[R]{attempt: attempt{member: m, began: now}, pick: pick}
}

// once sends the request to one instance. If that fails, the pick is released, or
// left to a dial that goes on.
func once[R any](ctx context.Context, p *Proxy, c carrier[R], t tried[R]) tried[R] {
	whole := false
	defer func() {
		if !whole { // a panic: the request ends by it, and the instance has it no more
			t.pick.Release()
		}
	}()
	t.sent, t.err = try(ctx, p, t.member, c, t.began)
	whole = true
	t.progress, t.serial = t.sent.progress, t.sent.serial
	t.outcome = outcomeOf(ctx, t.sent.status, t.sent.deferred, t.err)
	ended := p.now()
	t.took = ended.Sub(t.began)
	t.pick.Report(ended, t.outcome, t.took)
	t.member.target.identify(t.err, ended)
	if t.err != nil && !(t.outcome == balance.Canceled && p.abandon(t.sent.pending, t.pick, t.began)) {
		t.pick.Release()
	}
	return t
}

// pick chooses the next instance and puts it on the list of those tried.
func (p *Proxy) pick(x *exchange, now time.Time) (balance.Pick, *member, error) {
	if x.wants != "" && len(x.tried) == 0 {
		if pick, m, ok := p.pickWanted(x, now); ok {
			return pick, m, nil
		}
	}
	request := balance.Request{Now: now, Hash: x.hash, Tried: x.tried}
	pick, err := x.plan.picker.Pick(request)
	if err != nil && len(x.tried) == 0 && p.renew(x) {
		pick, err = x.plan.picker.Pick(request)
	}
	if err != nil {
		return balance.Pick{}, nil, err
	}
	m := &x.plan.members[pick.Index]
	x.tried = append(x.tried, m.target.endpoint)
	return pick, m, nil
}

// pickWanted picks the instance that a cookie names, if it may be picked.
func (p *Proxy) pickWanted(x *exchange, now time.Time) (balance.Pick, *member, bool) {
	at := slices.IndexFunc(x.plan.members, func(m member) bool { return m.token == x.wants })
	if at < 0 {
		return balance.Pick{}, nil, false
	}
	others := make([]*balance.Endpoint, 0, len(x.plan.members))
	for i := range x.plan.members {
		if i != at {
			others = append(others, x.plan.members[i].target.endpoint)
		}
	}
	pick, err := x.plan.picker.Pick(balance.Request{Now: now, Tried: others})
	if err != nil {
		return balance.Pick{}, nil, false
	}
	m := &x.plan.members[pick.Index]
	x.tried = append(x.tried, m.target.endpoint)
	return pick, m, true
}

// renew takes the newest plan of the route, if the table was replaced meanwhile:
// all instances of the old one may be gone.
func (p *Proxy) renew(x *exchange) bool {
	state := p.state.Load()
	if state == x.state {
		return false
	}
	matched, ok := state.table.Lookup(x.host, x.path)
	if !ok || matched.Key != x.plan.route.Key || !slices.Equal(matched.Guards, x.plan.route.Guards) || planOf(matched).closed != "" {
		return false // who may use it is decided once
	}
	x.state, x.plan = state, planOf(matched)
	return true
}

// try sends the request to one instance. A refusal that our own snapshot does not
// know of is asked again for a moment, and a failure that a refusal may hide
// behind is explained.
func try[R any](ctx context.Context, p *Proxy, m *member, c carrier[R], now time.Time) (sent[R], error) {
	if !m.mesh() {
		answer := c.send(ctx, m, now)
		return answer, wrap(m, answer.err)
	}
	if err := p.denied(m.target.service); err != nil {
		return sent[R]{progress: retry.Unsent}, err
	}
	answer := c.send(ctx, m, now)
	if answer.err == nil {
		return answer, nil
	}
	return questioned(ctx, p, m, c, answer)
}

// questioned is the rest of try for an answer that has failed.
func questioned[R any](ctx context.Context, p *Proxy, m *member, c carrier[R], answer sent[R]) (sent[R], error) {
	ctx, stop := c.bound(ctx)
	defer stop()
	deadline := p.now().Add(settle)
	for unsent(answer.err) && byDestination(answer.err) && p.now().Before(deadline) {
		decision, known := p.decide(m.target.service)
		if !known || !decision.Allowed || !p.pause(ctx, settleEvery) {
			break
		}
		answer = c.send(ctx, m, p.now())
	}
	if answer.err == nil || errors.Is(answer.err, mesh.ErrDenied) || ctx.Err() != nil ||
		clientsFault(answer.err) || errors.Is(answer.err, errClientGone) {
		return answer, wrap(m, answer.err)
	}
	return answer, wrap(m, p.explain(ctx, m, answer.err))
}

func wrap(m *member, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("call %s: %w", m.target.instance.ServiceID, err)
}

// again reports whether the request may go to another instance.
func (p *Proxy) again(ctx context.Context, x *exchange, progress retry.Progress, outcome balance.Outcome, spent bool) bool {
	last := &x.attempts[len(x.attempts)-1]
	if errors.Is(last.err, mesh.ErrNotReady) {
		return false // nothing is wrong with the instance, and no other would do better
	}
	p.countRefusal(last.member, last.err)
	again, reason := retry.Decide(p.now(), retry.Attempt{
		Outcome: outcome, Progress: progress, Method: x.method, BodyUsed: spent,
		TimedOut: isTimeout(last.err) || ctx.Err() != nil, Number: len(x.attempts), Limit: x.plan.attempts,
		Another: len(x.tried) < len(x.plan.members),
	}, x.budget(p))
	last.reason = reason
	if reason == retry.NoBudget {
		p.metrics.noBudget.Inc()
	}
	if again {
		p.metrics.retries.Inc()
	}
	return again
}

const (
	// anotherWait bounds one wait for a newer table by a request that reached nobody,
	// anotherTimes how often a request waits.
	anotherWait  = 300 * time.Millisecond
	anotherTimes = 4
)

// another waits for a newer table, if every instance of this one was tried and none
// has answered, and the request may be repeated: instances that all end their
// connections are mostly on their way out, and the catalog is about to say so. It
// happens a few times per request at most.
func another[R any](ctx context.Context, p *Proxy, x *exchange, c carrier[R]) bool {
	last := &x.attempts[len(x.attempts)-1]
	harmless := last.progress == retry.Unsent || last.progress == retry.Sent && retry.Idempotent(x.method) && !x.hasBody
	if x.waits >= anotherTimes || !harmless || !last.outcome.Failure() || last.reason == retry.NoBudget || isTimeout(last.err) {
		return false
	}
	x.waits++
	ctx, stop := c.bound(ctx)
	defer stop()
	timer := time.NewTimer(anotherWait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-x.state.replaced:
	case <-timer.C: // one that is being started again may listen by now
	}
	p.renew(x)
	x.tried = x.tried[:0]
	return true
}

// last is the error of the request: that of its last attempt, or why there was
// none.
func (x *exchange) last(err error) error {
	switch {
	case len(x.attempts) > 0 && !errors.Is(err, balance.ErrOverflow):
		return x.attempts[len(x.attempts)-1].err
	case errors.Is(err, balance.ErrNone), errors.Is(err, balance.ErrTried):
		return fmt.Errorf("%w: %w", mesh.ErrNoInstance, err)
	}
	return err
}

// outcomeOf says what an attempt means for the instance's health.
func outcomeOf(ctx context.Context, status int, deferred bool, err error) balance.Outcome {
	switch {
	case err == nil && deferred:
		return balance.Deferred
	case err == nil && status >= 500:
		return balance.OriginFailure
	case err == nil:
		return balance.Success
	case errors.Is(err, mesh.ErrDenied), errors.Is(err, mesh.ErrWrongIdentity), errors.Is(err, mesh.ErrNotReady):
		return balance.Policy
	case errors.Is(err, errClientGone), errors.Is(err, errCallOver), errors.Is(err, errPanic), clientsFault(err), ctx.Err() != nil && !errors.Is(context.Cause(ctx), errTimeout):
		return balance.Canceled
	case unsent(err):
		return balance.LocalFailure
	default:
		return balance.OriginFailure
	}
}

// clientsFault reports whether the client's body could not be read.
func clientsFault(err error) bool {
	var read *h1.ReadError
	return errors.As(err, &read)
}

// explain finds out whether a connection broke because the call is no longer
// allowed: by our own snapshot, or by asking the destination once more.
func (p *Proxy) explain(ctx context.Context, m *member, err error) error {
	if denied := p.denied(m.target.service); denied != nil {
		return denied
	}
	if unsent(err) || isTimeout(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, probe := p.cfg.Dialer.DialInstance(ctx, m.target.instance)
	if probe == nil {
		_ = conn.Close()
		return err
	}
	if errors.Is(probe, mesh.ErrDenied) {
		return probe
	}
	return err
}

// pause waits, or returns at once when the policy changes; false means that ctx
// has ended.
func (p *Proxy) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-p.cfg.Policy.Changed():
	}
	return true
}

// countRefusal counts an attempt that the destination, or who was there in its place,
// has kept from being made.
func (p *Proxy) countRefusal(m *member, err error) {
	switch {
	case errors.Is(err, mesh.ErrWrongIdentity):
		p.metrics.one(p.metrics.impostors, m.target.service)
	case byDestination(err):
		p.metrics.one(p.metrics.denied, m.target.service)
	}
}

// unsent reports whether err is from before a connection existed.
func unsent(err error) bool {
	var dial *dialError
	return errors.As(err, &dial)
}

func byDestination(err error) bool {
	var denied *mesh.DeniedError
	return errors.As(err, &denied) && denied.By == mesh.ByDestination
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, mesh.ErrTimeout) || errors.Is(err, errTimeout) || errors.As(err, &timeout) && timeout.Timeout()
}
