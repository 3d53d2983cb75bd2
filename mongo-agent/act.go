package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/mongo-agent/fence"
	"sluice/mongo-agent/hello"
	"sluice/mongo-agent/mongod"
	"sluice/mongo-agent/role"
	"sluice/mongo-agent/vitals"
)

// observe takes one observation of mongod and acts on it.
func (a *agent) observe(ctx context.Context, e hello.Event) error {
	before := a.machine.Snapshot()
	if e.Reply == nil {
		if e.Loss == role.Ended && a.doubtful(e.At) {
			return nil
		}
		if e.Loss == role.Ended {
			a.distrust("mongod has ended")
		}
		return a.act(ctx, e.At, before, a.machine.Failed(e.At, e.Loss, e.Reason))
	}
	if err := a.guard(ctx, e.Reply.Process); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		a.distrust(err.Error())
		return a.act(ctx, e.At, before, a.machine.Failed(time.Now(), role.Distrusted, err.Error()))
	}
	a.admitMembers(e.Reply.Hosts)
	var actions []role.Action
	if e.Reply.Writable {
		actions = a.machine.Fence(time.Now(), a.fenceReason(e.Reply.Term))
		if before.Fence != "" && a.machine.Snapshot().Fence == "" {
			a.follower.Ask() // for an answer of after the fence
		}
	}
	actions = append(actions, a.machine.Heard(e.At, *e.Reply)...)
	if before.State == role.Primary && a.machine.Snapshot().State != role.Primary &&
		a.handingOver == "" && !a.planned && a.profile.Assist {
		defer a.retire(ctx, before.Term)
	}
	return a.act(ctx, e.At, before, actions)
}

// doubtful reports whether the end of a connection to mongod at now says nothing
// yet, because its process is seen to run and no other connection has ended a
// moment ago.
func (a *agent) doubtful(now time.Time) bool {
	alone := now.Sub(a.ended) > doubtTime
	a.ended = now
	if alone && a.process.State == vitals.Running {
		a.follower.Ask()
		return true
	}
	return false
}

// notice takes a change of mongod's process. A stopped one answers nobody and
// resets nobody: that is done for it here.
func (a *agent) notice(ctx context.Context, e vitals.Event) error {
	was := a.process
	a.process = e
	a.board.setProcess(e)
	before := a.machine.Snapshot()
	switch e.State {
	case vitals.Stopped:
		reason := "mongod does not run: " + e.Reason
		if a.repl != nil {
			a.repl.Cut(reason)
		}
		return a.act(ctx, e.At, before, a.machine.Failed(e.At, role.Frozen, reason))
	case vitals.Gone:
		a.distrust("mongod has ended")
		return a.act(ctx, e.At, before, a.machine.Failed(e.At, role.Ended, "mongod has ended"))
	case vitals.Running:
		if was.State == vitals.Stopped {
			a.logger.Info("mongod runs again")
			a.follower.Ask()
		}
	case vitals.Disk:
		a.logger.Warn("mongod waits for a disk", "reason", e.Reason)
	case vitals.Unknown:
		a.logger.Warn("mongod's process cannot be watched; a frozen one is noticed by the clock alone", "reason", e.Reason)
	}
	return nil
}

// fenceReason says why the own member must not be served as the primary of a
// term.
func (a *agent) fenceReason(term int64) string {
	view, _ := a.circle.View()
	highest, knower := view.HighestTerm()
	handingOver := ""
	if term <= a.handingTerm {
		handingOver = a.handingOver
	}
	now := time.Now()
	return fence.Reason(now, fence.Facts{
		Term: term, HighestTerm: highest, Knower: knower,
		Lease: view.Lease(a.profile.Limit, now), HandingOver: handingOver,
	})
}

// fence puts the fence up or takes it away, as things are now.
func (a *agent) fence(ctx context.Context) error {
	before := a.machine.Snapshot()
	reason := ""
	if before.State == role.Primary {
		reason = a.fenceReason(before.Term)
	}
	if reason == before.Fence || reason != "" && before.Fence != "" {
		return nil
	}
	if reason == "" {
		a.logger.Info("fence is gone", "was", before.Fence)
		defer a.follower.Ask()
	} else {
		a.logger.Warn("fenced", "reason", reason)
	}
	now := time.Now()
	return a.act(ctx, now, before, a.machine.Fence(now, reason))
}

// guard makes sure that the mongod process lets nobody in without
// authentication, before anybody is led to it: through a relay, everybody comes
// from its own loopback.
func (a *agent) guard(ctx context.Context, process string) error {
	if process == a.trusted {
		return a.admit()
	}
	ctx, cancel := context.WithTimeout(ctx, guardTimeout)
	defer cancel()
	client, err := mongod.System(a.Mongod, a.key)
	if err != nil {
		return err
	}
	defer mongod.Close(client)
	stranger, err := mongod.Anonymous(a.Mongod)
	if err != nil {
		return err
	}
	defer mongod.Close(stranger)
	if err := mongod.Guarded(ctx, client, stranger); err != nil {
		if before := a.machine.Snapshot(); before.Reason != err.Error() {
			a.logger.Error("mongod is not served", "err", err)
		}
		return err
	}
	a.trusted = process
	return a.admit()
}

// admit lets the other members in.
func (a *agent) admit() error {
	if a.repl == nil || a.process.State == vitals.Stopped {
		return nil
	}
	return a.repl.Open()
}

// distrust shuts the way to mongod for the other members, until guard has seen
// the next process.
func (a *agent) distrust(reason string) {
	a.trusted = ""
	if a.repl != nil {
		a.repl.Cut(reason)
	}
}

// act does the actions in their order and notes when each was complete.
func (a *agent) act(ctx context.Context, detected time.Time, before role.Snapshot, actions []role.Action) error {
	now := a.machine.Snapshot()
	a.self.heard(now)
	a.board.set(now)
	t := transition{From: before.State, To: now.State, Term: now.Term, Reason: cmp.Or(now.Reason, now.Fence), Detected: detected}
	since := func() *millis { d := millis(time.Since(detected)); return &d }
	registered := false
	for _, action := range actions {
		service := serviceOf(action.Role)
		switch action.Do {
		case role.Cut:
			t.Closed = a.doors[action.Role].Cut("role changed: " + service + " is gone")
			t.Cut = since()
			a.network.Registrar.Remove(a.instance(service))
		case role.Accept:
			if err := a.doors[action.Role].Open(); err != nil {
				return fmt.Errorf("offer %s: %w", service, err)
			}
			t.Accepted = since()
		case role.Register:
			a.publish(service, portOf(action.Role), a.meta(action.Term))
			registered = true
		}
	}
	if before.State == now.State && t.Cut == nil && t.Accepted == nil {
		return nil
	}
	a.logger.Info("role", "from", t.From, "to", t.To, "term", t.Term, "reason", t.Reason, "cut", t.Closed)
	amend := a.board.record(t)
	if registered {
		a.waiting.Go(func() { a.awaitRegistered(ctx, detected, amend) })
	}
	return nil
}

func (a *agent) awaitRegistered(ctx context.Context, detected time.Time, amend func(func(*transition))) {
	ctx, cancel := context.WithTimeout(ctx, registeredTimeout)
	defer cancel()
	if err := a.network.Registrar.Wait(ctx); err != nil {
		if !errors.Is(err, context.Canceled) {
			a.logger.Warn("role is not in the catalog yet", "err", err)
		}
		return
	}
	took := millis(time.Since(detected))
	amend(func(t *transition) { t.Registered = &took })
}
