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
)

// errNotPrimary means that there is nothing to hand over.
var errNotPrimary = errors.New("the member is not primary")

// handOver makes another member the primary without losing anything: first
// nobody can write here any more, then the successor gets all there is, then it
// stands for election. It returns the successor. If nobody takes over in time,
// this member goes on.
func (a *agent) handOver(ctx context.Context, to string) (string, error) {
	if s, _ := a.board.Snapshot(); s.State != role.Primary || s.Fence != "" {
		return "", errNotPrimary
	}
	view, _ := a.circle.View()
	to, err := successor(view, a.own().Address, to)
	if err != nil {
		return "", err
	}
	a.logger.Info("handing over", "to", to)
	a.awaitFollower(ctx, to)
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	if err := a.setHandingOver(ctx, to); err != nil {
		return "", err
	}
	defer func() {
		a.self.successor("")
		_ = a.setHandingOver(context.WithoutCancel(ctx), "")
	}()
	a.awaitLog(ctx, time.Now())
	a.self.successor(to)
	if _, ok := a.await(ctx, func(s role.Snapshot) bool { return s.State != role.Primary }); !ok {
		return "", fmt.Errorf("hand over to %s: it has not become primary within %v", to, handOverTimeout)
	}
	return to, nil
}

// setHandingOver puts the fence up, or takes it away; when it returns, nobody can
// write here any more.
func (a *agent) setHandingOver(ctx context.Context, to string) error {
	// The one who drives may have ended before us.
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	return a.request(ctx, func(ctx context.Context) error {
		a.handingOver = to
		return a.fence(ctx)
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
// that was asked for after since.
func (a *agent) awaitLog(ctx context.Context, since time.Time) {
	ctx, cancel := context.WithTimeout(ctx, logTimeout)
	defer cancel()
	ticker := time.NewTicker(logPoll)
	defer ticker.Stop()
	for {
		a.follower.Ask()
		if s, _ := a.board.Snapshot(); s.Asked.After(since) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// successor returns who takes over from the member at primary: the one that was
// asked for, or the head of the sync chain, or the one with the longest log.
func successor(view heartbeat.View, primary, asked string) (string, error) {
	able := func(p heartbeat.Peer) bool {
		return p.Known && !p.Lost && !p.Status.Frozen && p.Status.Role == role.Secondary
	}
	if asked != "" {
		p, ok := view.Peer(asked)
		switch {
		case !ok:
			return "", fmt.Errorf("hand over to %q: there is no other member on such a node", asked)
		case !able(p):
			return "", fmt.Errorf("hand over to %s: it is no healthy secondary", asked)
		}
		return asked, nil
	}
	var best *heartbeat.Peer
	for i, p := range view.Peers {
		if !able(p) {
			continue
		}
		if heads(view, p, primary) {
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

// heads reports whether p replicates from the primary and somebody from p.
func heads(view heartbeat.View, p heartbeat.Peer, primary string) bool {
	if p.Status.Source != primary {
		return false
	}
	for _, other := range view.Peers {
		if other.Node != p.Node && !other.Lost && other.Status.Source == p.Status.Member {
			return true
		}
	}
	return false
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
