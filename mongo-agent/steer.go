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
	// holdTime bounds how long the own mongod is kept from noticing that another
	// member is gone, while a new primary is being elected.
	holdTime = time.Second
	// sourceEvery is how often the own mongod is asked what it replicates from.
	sourceEvery  = time.Second
	steerTimeout = time.Second
)

// hold is how long the ends of connections to other members are held.
func (a *agent) hold() time.Duration {
	if a.profile.Steer && a.profile.Assist {
		return holdTime
	}
	return 0
}

// reign is who is primary, and in which term.
type reign struct {
	node string
	term int64
}

// steer leads the own mongod to each new primary, until ctx ends. Without that, a
// secondary whose source has died looks for another before there is one, finds
// none, and sleeps for a second, and until it wakes no write reaches a majority.
// So the end of the old source is held from it (relay.PeerConfig.Hold) until it
// has been told of the new one.
func (a *agent) steer(ctx context.Context) error {
	ticker := time.NewTicker(sourceEvery)
	defer ticker.Stop()
	var last reign
	for ctx.Err() == nil {
		view, news := a.circle.View()
		own, changed := a.board.Snapshot()
		if now := a.reigning(view, own); now.term > last.term {
			if last.term > 0 && a.profile.Steer {
				a.lead(ctx, now, own.State)
			}
			last = now
		}
		select {
		case <-ctx.Done():
		case <-news:
		case <-changed:
		case <-ticker.C:
			a.lookAtSource(ctx)
		}
	}
	return nil
}

// reigning returns who is primary in the highest term.
func (a *agent) reigning(view heartbeat.View, own role.Snapshot) reign {
	var r reign
	if own.State == role.Primary {
		r = reign{a.Node, own.Term}
	}
	for _, p := range view.Peers {
		if p.Known && !p.Lost && p.Status.Role == role.Primary && p.Status.Term > r.term {
			r = reign{p.Node, p.Status.Term}
		}
	}
	return r
}

// lead tells the own mongod to replicate from the new primary, and then lets it
// notice that its old source is gone.
func (a *agent) lead(ctx context.Context, to reign, own role.State) {
	started := time.Now()
	var err error
	if to.node != a.Node && own == role.Secondary {
		err = a.syncFrom(ctx, a.addressOf(to.node))
	}
	for i, m := range a.others() {
		if m.Node != to.node && len(a.peers) > 0 {
			a.peers[i].Reset("the primary is " + to.node)
		}
	}
	a.logger.Info("new primary", "primary", to.node, "term", to.term, "took", time.Since(started), "err", err)
}

// syncFrom makes a member the source, unless it is: who asks again for the source
// that he has sleeps a second, too (MongoDB log ID 21087).
func (a *agent) syncFrom(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, steerTimeout)
	defer cancel()
	source, err := a.source(ctx)
	if err != nil || source == address {
		return err
	}
	return mongod.Admin(ctx, a.system, bson.D{{Key: "replSetSyncFrom", Value: address}}, nil)
}

func (a *agent) source(ctx context.Context) (string, error) {
	var status struct {
		Source string `bson:"syncSourceHost"`
	}
	err := mongod.Admin(ctx, a.system, bson.D{{Key: "replSetGetStatus", Value: 1}}, &status)
	return status.Source, err
}

// lookAtSource keeps what the others are told about the source true, and the
// connection to mongod warm.
func (a *agent) lookAtSource(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, steerTimeout)
	defer cancel()
	if source, err := a.source(ctx); err == nil {
		a.self.source(source)
	}
}

func (a *agent) addressOf(node string) string {
	for _, m := range a.Members {
		if m.Node == node {
			return m.Address
		}
	}
	return ""
}
