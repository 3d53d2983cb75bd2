package main

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"sluice/mongo-agent/heartbeat"
	"sluice/mongo-agent/mongod"
	"sluice/mongo-agent/role"
)

const (
	// chainTimeout bounds the wait for the chain; without it a hand-over takes
	// longer, and nothing is lost.
	chainTimeout = 600 * time.Millisecond
	// chainNudge is the pause between two operations that make members look for a
	// source.
	chainNudge = 20 * time.Millisecond
	// chainLook is the pause between two looks at the own source while it changes,
	// and chainLooks how many there are: elections wait meanwhile.
	chainLook  = 5 * time.Millisecond
	chainLooks = 60
)

// formChain lets the other members replicate from the heir before it becomes
// primary, while writes go on. Then none of them loses its source with the old
// primary, and the first write of the new one needs nobody to look for another:
// that costs a moment at best, and a second at worst (see steer).
//
// It is not kept for failures: a member in the middle of a chain that dies would
// stall writes that its death otherwise costs nothing.
func (a *agent) formChain(ctx context.Context, heir string) {
	ctx, cancel := context.WithTimeout(ctx, chainTimeout)
	defer cancel()
	view, news := a.circle.View()
	if p, _ := view.Peer(heir); !a.profile.Steer || p.Status.Source != a.self.load().Member {
		return // it replicates from another one itself, maybe from who would follow it
	}
	a.self.heir(heir)
	nudge := time.NewTicker(chainNudge)
	defer nudge.Stop()
	for !chained(view, heir, a.addressOf(heir)) {
		select {
		case <-ctx.Done():
			a.logger.Info("handing over without a chain", "to", heir)
			return
		case <-nudge.C:
			a.nudge(ctx)
		case <-news:
		}
		view, news = a.circle.View()
	}
}

// nudge writes an operation that does nothing. A member thinks about its source
// when its old one answers, and that does so at once only if there is something to
// replicate.
func (a *agent) nudge(ctx context.Context) {
	note := bson.D{{Key: "appendOplogNote", Value: 1}, {Key: "data", Value: bson.D{{Key: "msg", Value: "hand-over"}}}}
	if err := mongod.Admin(ctx, a.system, note, nil); err != nil && ctx.Err() == nil {
		a.logger.Debug("no note in the log", "err", err)
	}
}

// chained reports whether all healthy secondaries but the heir replicate from it.
func chained(view heartbeat.View, heir, address string) bool {
	for _, p := range view.Peers {
		if p.Node != heir && healthy(p) && p.Status.Source != address {
			return false
		}
	}
	return true
}

// healthy reports whether a peer's mongod is a secondary that is heard.
func healthy(p heartbeat.Peer) bool {
	return p.Known && !p.Lost && !p.Status.Frozen && p.Status.Role == role.Secondary
}

// heirOf returns the node for which the primary prepares a hand-over, or "".
func heirOf(view heartbeat.View) string {
	for _, p := range view.Peers {
		if p.Known && !p.Lost && p.Status.Role == role.Primary && p.Status.Heir != "" {
			return p.Status.Heir
		}
	}
	return ""
}

// join makes the heir the source of the own mongod, and says so as soon as it is.
func (a *agent) join(ctx context.Context, heir string) {
	own, _ := a.board.Snapshot()
	if heir == a.Node || own.State != role.Secondary {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, chainTimeout)
	defer cancel()
	before, err := a.syncFrom(ctx, a.addressOf(heir))
	for range chainLooks {
		if err != nil || a.self.load().Source == a.addressOf(heir) {
			break
		}
		pause(ctx, chainLook)
		a.lookAtSource(ctx)
	}
	a.logger.Debug("chained for a hand-over", "heir", heir, "from", before, "err", err)
}

// unchain makes the primary the source again where it is another secondary, which
// mongod chooses by itself at times, or a hand-over that did not come about has
// left: the death of that one would stall the writes that wait for this one.
func (a *agent) unchain(ctx context.Context, primary, heir string) {
	own, _ := a.board.Snapshot()
	source := a.self.load().Source
	to := a.addressOf(primary)
	if !a.profile.Steer || heir != "" || own.State != role.Secondary || primary == a.Node || source == "" || to == "" || source == to {
		return
	}
	view, _ := a.circle.View()
	if p, _ := view.Peer(primary); p.Lost || p.Status.Frozen || p.Status.Role != role.Primary {
		return
	}
	_, err := a.syncFrom(ctx, to)
	a.logger.Debug("replicating from the primary again", "from", source, "err", err)
}
