package main

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"sluice/mongo-agent/election"
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
	// checkAfter is when it is looked whether the own mongod follows the new
	// primary.
	checkAfter = 150 * time.Millisecond
	// configWait bounds the wait for the configuration of a new term, which is there
	// before the first write; configLook is the pause between two looks.
	configWait = 100 * time.Millisecond
	configLook = 2 * time.Millisecond
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
//
// The moment is that in which the new primary's configuration has arrived, which
// is before the first write: it clears a request that came before, and what is
// released then finds no source. One look is taken afterwards, too.
func (a *agent) steer(ctx context.Context) error {
	ticker := time.NewTicker(sourceEvery)
	defer ticker.Stop()
	var last reign
	var elected, led, heir string
	var check <-chan time.Time
	for ctx.Err() == nil {
		view, news := a.circle.View()
		own, changed := a.board.Snapshot()
		if node, name, lost := winner(view); name != elected && a.profile.Steer {
			elected = name
			if node != "" {
				a.lead(ctx, node, last.node, lost)
				led = node
			}
		}
		if next := heirOf(view); next != heir && a.profile.Steer {
			if heir = next; heir != "" {
				a.join(ctx, heir)
			}
		}
		if now := a.reigning(view, own); now.term > last.term {
			if last.term > 0 && a.profile.Steer {
				if led != now.node { // elected without the help of an agent
					a.lead(ctx, now.node, last.node, last.term)
				}
				a.release(now.node, last.node)
				check = time.After(checkAfter)
			}
			last, led = now, ""
		}
		select {
		case <-ctx.Done():
		case <-news:
		case <-changed:
		case <-check:
			check = nil
			a.lead(ctx, last.node, "", 0)
		case <-ticker.C:
			a.lookAtSource(ctx)
			a.unchain(ctx, last.node, heir)
		}
	}
	return nil
}

// winner returns the node whose mongod has won the newest election that its agent
// asked for, a name for that election, and the term of the primary that was lost.
// A member that has won before may say so still.
func winner(view heartbeat.View) (node, name string, lost int64) {
	lost = -1
	for _, p := range view.Peers {
		if term := election.RoundTerm(p.Status.Standing); p.Known && !p.Lost && p.Status.Won && term > lost {
			node, name, lost = p.Node, p.Node+" "+p.Status.Standing, term
		}
	}
	return node, name, lost
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

// lead tells the own mongod to replicate from the new primary, unless it does, and
// then lets it notice that its old source is gone. lost is the term that is over.
func (a *agent) lead(ctx context.Context, to, old string, lost int64) {
	if own, _ := a.board.Snapshot(); to == a.Node || own.State != role.Secondary {
		return
	}
	started := time.Now()
	a.awaitConfig(ctx, lost)
	source, err := a.syncFrom(ctx, a.addressOf(to))
	if source == a.addressOf(to) {
		return
	}
	if err == nil {
		a.release(to, a.nodeOf(source))
	}
	a.release(to, old)
	a.logger.Info("led to the new primary", "primary", to, "from", source, "took", time.Since(started), "err", err)
}

// release resets the connections to the old primary, or the old source, and to
// whoever is lost.
func (a *agent) release(primary, old string) {
	view, _ := a.circle.View()
	for i, m := range a.others() {
		if len(a.peers) == 0 || m.Node == primary {
			continue
		}
		if p, _ := view.Peer(m.Node); m.Node == old || p.Lost {
			a.peers[i].Reset("the primary is " + primary)
		}
	}
}

// awaitConfig waits until the own mongod has a configuration of a term after the
// one that is over, or configWait has passed.
func (a *agent) awaitConfig(ctx context.Context, lost int64) {
	ctx, cancel := context.WithTimeout(ctx, configWait)
	defer cancel()
	for ctx.Err() == nil {
		status, err := a.replicating(ctx)
		if err != nil || status.configTerm() > lost {
			return
		}
		pause(ctx, configLook)
	}
}

// syncFrom makes a member the source, unless it is: who asks again for the source
// that he has sleeps a second, too (MongoDB log ID 21087).
func (a *agent) syncFrom(ctx context.Context, address string) (before string, err error) {
	ctx, cancel := context.WithTimeout(ctx, steerTimeout)
	defer cancel()
	status, err := a.replicating(ctx)
	if err != nil || status.Source == address {
		return status.Source, err
	}
	return status.Source, mongod.Admin(ctx, a.system, bson.D{{Key: "replSetSyncFrom", Value: address}}, nil)
}

// replicating is what mongod says about its part in the set, and hello does not.
type replicating struct {
	Source string `bson:"syncSourceHost"`
	// Term is the newest that it has taken part in, if only by its vote.
	Term    int64 `bson:"term"`
	Optimes struct {
		Committed struct {
			Term      int64          `bson:"t"`
			Timestamp bson.Timestamp `bson:"ts"`
		} `bson:"lastCommittedOpTime"`
		CommittedWall time.Time `bson:"lastCommittedWallTime"`
	} `bson:"optimes"`
	Members []struct {
		Self       bool  `bson:"self"`
		ConfigTerm int64 `bson:"configTerm"`
	} `bson:"members"`
}

// configTerm is the term of the configuration that mongod has now.
func (r replicating) configTerm() int64 {
	for _, m := range r.Members {
		if m.Self {
			return m.ConfigTerm
		}
	}
	return 0
}

// majority is the newest operation that mongod knows a majority to have; the zero value
// before the first.
func (r replicating) majority() heartbeat.MajorityPoint {
	committed := r.Optimes.Committed
	if committed.Timestamp.IsZero() || committed.Term < 0 {
		return heartbeat.MajorityPoint{}
	}
	return heartbeat.MajorityPoint{OpTime: role.OpTimeOf(committed.Term, committed.Timestamp.T, committed.Timestamp.I), At: r.Optimes.CommittedWall.UTC()}
}

func (a *agent) replicating(ctx context.Context) (replicating, error) {
	var status replicating
	err := mongod.Admin(ctx, a.system, bson.D{{Key: "replSetGetStatus", Value: 1}}, &status)
	return status, err
}

// voted returns the newest term that mongod has taken part in.
func (a *agent) voted(ctx context.Context) (int64, error) {
	status, err := a.replicating(ctx)
	return status.Term, err
}

// lookAtSource keeps what the others are told about the source and about the majority
// true, and the connection to mongod warm.
func (a *agent) lookAtSource(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, steerTimeout)
	defer cancel()
	asked := time.Now()
	if status, err := a.replicating(ctx); err == nil {
		a.self.replicates(status, asked)
	}
}

func (a *agent) nodeOf(address string) string {
	for _, m := range a.Members {
		if m.Address == address {
			return m.Node
		}
	}
	return ""
}

func (a *agent) addressOf(node string) string {
	for _, m := range a.Members {
		if m.Node == node {
			return m.Address
		}
	}
	return ""
}
