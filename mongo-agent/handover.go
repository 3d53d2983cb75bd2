package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/mongo-agent/heartbeat"
	"sluice/mongo-agent/role"
)

const (
	// handOverTimeout bounds a hand-over; after it the old primary goes on.
	handOverTimeout = 1500 * time.Millisecond
	// lagTimeout bounds the wait for a successor that lags, during which writes go
	// on.
	lagTimeout = time.Second
	// logTimeout bounds the wait for the primary's last operation.
	logTimeout = 300 * time.Millisecond
	logPoll    = time.Millisecond
	// nearSeconds is how far behind, in seconds of the operations' timestamps, a
	// successor may be.
	nearSeconds = 1
	// retireTime is how long a primary that has stopped taking writes by itself is
	// not served again in the same term.
	retireTime = 700 * time.Millisecond
	// retireLook bounds the question whether it was replaced.
	retireLook = 50 * time.Millisecond
)

// errNotPrimary means that there is nothing to hand over.
var errNotPrimary = errors.New("the member is not primary")

// handOver makes another member the primary without losing anything: first
// nothing is written here any more, then the successor gets all there is, then it
// stands for election. It returns the successor. If nobody takes over in time,
// this member goes on, and nobody has noticed more than a delay.
//
// Clients are kept waiting, and reset only when the own mongod has stepped down:
// those that come back earlier would find no primary, and take the processor from
// the election. An answer that waits is never given after that, so what mongod
// did last and the successor does not have was acknowledged to nobody.
func (a *agent) handOver(ctx context.Context, to string) (string, error) {
	own, _ := a.board.Snapshot()
	if own.State != role.Primary || own.Fence != "" {
		return "", errNotPrimary
	}
	view, _ := a.circle.View()
	to, err := successor(view, own.OpTime, to)
	if err != nil {
		return "", err
	}
	if !a.handing.TryLock() {
		return "", errors.New("hand over: it is being done already")
	}
	defer a.handing.Unlock()
	a.logger.Info("handing over", "to", to)
	defer a.self.heir("")
	a.formChain(ctx, to)
	a.awaitFollower(ctx, to)
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	defer func() {
		a.self.successor("")
		_ = a.keepWaiting(context.WithoutCancel(ctx), false)
	}()
	if err := a.keepWaiting(ctx, true); err != nil {
		return "", err
	}
	if !a.awaitLog(ctx, time.Now()) {
		return "", fmt.Errorf("hand over to %s: mongod has not said within %v what its last operation is", to, logTimeout)
	}
	a.self.successor(to)
	if !a.awaitSuccessor(ctx, to, own.Term) {
		return "", fmt.Errorf("hand over to %s: it has not become primary within %v", to, handOverTimeout)
	}
	return to, nil
}

// awaitSuccessor waits until the successor takes writes. Until then this agent
// must be heard: two that lose it would take the primary for lost.
func (a *agent) awaitSuccessor(ctx context.Context, node string, after int64) bool {
	for {
		view, news := a.circle.View()
		if p, _ := view.Peer(node); p.Status.Role == role.Primary && p.Status.Term > after {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-news:
		}
	}
}

// keepWaiting keeps back what clients ask of the primary and what it answers;
// when it returns, nobody is answered here any more. With false it lets that go
// on, unless somebody else leads by now: then the clients are reset first.
func (a *agent) keepWaiting(ctx context.Context, on bool) error {
	return a.request(ctx, func(ctx context.Context) error {
		err := a.fence(ctx)
		a.doors[role.Primary].Hold(on)
		a.planned = on
		return err
	})
}

// awaitFollower waits until another member has all that this one has now, or
// lagTimeout is over.
func (a *agent) awaitFollower(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, lagTimeout)
	defer cancel()
	own, _ := a.board.Snapshot()
	ticker := time.NewTicker(logPoll)
	defer ticker.Stop()
	for {
		view, _ := a.circle.View()
		if p, _ := view.Peer(node); p.Status.OpTime.Compare(own.OpTime) >= 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// awaitLog waits until mongod has said what its last operation is, in an answer
// that was asked for after since; false means that it has not in time.
func (a *agent) awaitLog(ctx context.Context, since time.Time) bool {
	ctx, cancel := context.WithTimeout(ctx, logTimeout)
	defer cancel()
	ticker := time.NewTicker(logPoll)
	defer ticker.Stop()
	for {
		a.follower.Ask()
		if s, _ := a.board.Snapshot(); s.Asked.After(since) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
}

// successor returns who takes over from this member: the one that was asked for,
// or the first in the order of the members that is not far behind, because that
// is whom a mongod that steps down by itself asks, too; or the least far behind.
func successor(view heartbeat.View, own role.OpTime, asked string) (string, error) {
	if asked != "" {
		p, ok := view.Peer(asked)
		switch {
		case !ok:
			return "", fmt.Errorf("hand over to %q: there is no other member on such a node", asked)
		case !healthy(p):
			return "", fmt.Errorf("hand over to %s: it is no healthy secondary", asked)
		}
		return asked, nil
	}
	var best *heartbeat.Peer
	for i, p := range view.Peers {
		if !healthy(p) {
			continue
		}
		if p.Status.OpTime.Timestamp>>32+nearSeconds >= own.Timestamp>>32 {
			return p.Node, nil
		}
		if best == nil || p.Status.OpTime.Compare(best.Status.OpTime) > 0 {
			best = &view.Peers[i]
		}
	}
	if best == nil {
		return "", errors.New("hand over: no other member is a healthy secondary")
	}
	return best.Node, nil
}

// retire makes a successor of a primary that has stopped taking writes by itself,
// as one does that steps down or is told to end: it may do so for a while, take
// writes again in between, and end without having found anybody. One that has
// heard of a later term was replaced, and needs no successor.
func (a *agent) retire(ctx context.Context, term int64) {
	ctx, cancel := context.WithTimeout(ctx, retireLook)
	defer cancel()
	if now, err := a.voted(ctx); err == nil && now > term {
		return
	}
	view, _ := a.circle.View()
	to, err := successor(view, a.machine.Snapshot().OpTime, "")
	if err != nil {
		return
	}
	a.logger.Info("the primary takes no writes any more", "successor", to)
	a.handingOver, a.handingTerm = to, term
	a.retired = time.After(retireTime)
	a.self.successor(to)
}

// resume ends what retire began.
func (a *agent) resume() {
	a.handingOver, a.retired = "", nil
	a.self.successor("")
}

// handOverAtEnd hands over when the process is told to end.
func (a *agent) handOverAtEnd(ctx context.Context) error {
	<-ctx.Done()
	to, err := a.handOver(context.WithoutCancel(ctx), "")
	switch {
	case err == nil:
		a.logger.Info("handed over", "to", to)
	case !errors.Is(err, errNotPrimary):
		a.logger.Warn("ending without a successor", "err", err)
	}
	return nil
}
