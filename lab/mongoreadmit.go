package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"sluice/lab/process"
)

// abortSignal ends a mongod that gives up by itself, as it does instead of undoing what
// a majority had acknowledged.
const abortSignal = "SIGABRT"

// rejoinWait is how long a member that was restarted has to follow the set, or to end
// because it cannot; one that was killed reads its journal first.
const rejoinWait = time.Minute

// readmit gives the members that a promotion took the votes of theirs back, after it
// has kept what they have to undo.
func (d *drill) readmit(ctx context.Context, request MongoRequest) error {
	status, err := d.onePrimary(ctx)
	if err != nil {
		return fail(exitRefused, "sluice mongo status", "readmit: %v", err)
	}
	// Before anything is renamed: what a run that was interrupted has named is named again.
	earlier, err := d.recall()
	if err != nil {
		return fail(2, "move the file out of "+d.layout.Rollback(), "readmit: what an earlier one has kept cannot be read: %v", err)
	}
	strays := voteless(status)
	for _, m := range strays {
		d.plan("%s would follow %s and get its vote back; it is %s now", m.Node, status.Primary, m.Role)
	}
	if len(earlier) > 0 {
		d.plan("%d operations that an earlier readmit has found, which did not end, would be named again", len(d.lost.operations))
	}
	switch {
	case len(strays) == 0:
		d.plan("every member has its vote")
		if request.DryRun {
			return nil
		}
		d.result.Planned = nil
		return d.allAdmitted(ctx)
	case request.DryRun:
		return nil
	}
	d.result.Planned = nil
	for _, m := range strays {
		n, err := d.member(m.Node)
		if err != nil {
			return err
		}
		if err := d.followAgain(ctx, n); err != nil {
			return fail(2, "sluice logs "+m.Node+"/mongod", "readmit %s: %v", m.Node, err)
		}
	}
	if err := d.reshape(ctx, d.setMembers(d.with("mongo"))); err != nil {
		return fail(2, "sluice mongo status", "readmit: %v", err)
	}
	return d.allAdmitted(ctx)
}

// onePrimary waits until no more than one member says that it is primary: one that has
// just come back may not have heard of the promotion, and counts itself and the others of
// its side as the voters.
func (d *drill) onePrimary(ctx context.Context) (status MongoStatus, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, rejoinWait, fmt.Errorf("not within %s", rejoinWait))
	defer cancel()
	err = waitFor(ctx, "one member alone is primary", func(ctx context.Context) error {
		switch status = d.mongoStatus(ctx); {
		case status.Alarm != "":
			return errors.New(status.Alarm)
		case status.Primary == "":
			return errors.New("there is no primary")
		}
		return nil
	})
	return status, err
}

// allAdmitted names what was undone, now and by earlier runs that did not end.
func (d *drill) allAdmitted(ctx context.Context) error {
	d.tellUndone()
	d.say("every member has its vote")
	if ctx.Err() != nil {
		return ctx.Err() // who asked has not heard it
	}
	if err := d.rollback().markTold(); err != nil {
		return fail(2, "", "readmit: it is done, but the next one will name the same documents again: %v", err)
	}
	return nil
}

// voteless are the members whom the primary's agent does not count.
func voteless(status MongoStatus) []MongoMember {
	counted := map[string]bool{status.Primary: true}
	for _, m := range status.Members {
		if m.Node == status.Primary {
			for _, peer := range m.Report.Peers {
				counted[peer.Node] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(status.Members), func(m MongoMember) bool { return counted[m.Node] })
}

// followAgain brings a member back to the set: as it is if it can roll back, else anew.
func (d *drill) followAgain(ctx context.Context, n *node) error {
	p := n.process(processMongod)
	if p == nil {
		return errors.New("it runs no mongod")
	}
	if !p.State().Running {
		if err := d.awaitHearing(ctx, n); err != nil {
			return err
		}
		if err := p.Restart(ctx); err != nil {
			return err
		}
		if err := d.faults.remove(n.node.Name+"/"+processMongod, FaultKill, FaultTerm, FaultStop); err != nil {
			return err
		}
	}
	follows, err := d.awaitFollowing(ctx, n, p)
	if err != nil {
		return err
	}
	if follows {
		return d.keepRolledBack(n)
	}
	if state := lastState(p); state.Signal != abortSignal {
		return fmt.Errorf("mongod has ended, and not because it cannot roll back: %s", describeExit(state))
	}
	if err := d.keepRolledBack(n); err != nil {
		return err
	}
	d.say("%s cannot roll back by itself, because a majority had acknowledged what it has to undo", n.node.Name)
	if err := d.salvage(ctx, n); err != nil {
		return fmt.Errorf("keep what it has to undo: %w", err)
	}
	err = p.RestartAfter(ctx, func() error {
		data := d.layout.Data(n.node.Name, processMongod)
		if err := os.RemoveAll(data); err != nil {
			return err
		}
		return os.Mkdir(data, 0o700)
	})
	if err != nil {
		return err
	}
	if follows, err = d.awaitFollowing(ctx, n, p); err != nil || !follows {
		return errors.Join(err, errors.New("it does not follow the set, although it has started empty"))
	}
	d.say("%s has copied everything", n.node.Name)
	return nil
}

// errLeftToReadmit is why a mongod that is down is not started.
var errLeftToReadmit = errors.New("a promotion took its vote, which it has not heard; sluice mongo readmit starts it")

// lostItsVote reports whether the set goes on without the member's vote. Members of a
// datacenter that was lost must not be started together: as long as they hear nobody else
// they are a majority of the configuration that they know, and elect a primary of a higher
// term. Then it is the promoted side whose operations are undone.
func (s *Supervisor) lostItsVote(ctx context.Context, n *node) bool {
	return uncounted(s.mongoStatus(ctx), n.node.Name)
}

// uncounted reports whether there is a primary that does not count a node's member.
func uncounted(status MongoStatus, node string) bool {
	return status.Primary != "" && slices.ContainsFunc(voteless(status), func(m MongoMember) bool { return m.Node == node })
}

// hearingWait is how long a datacenter that was started again has to find the other one.
const hearingWait = time.Minute

// awaitHearing waits until a member's agent hears the primary, so that its mongod, when it
// is started, hears of the promotion before it stands for election.
func (d *drill) awaitHearing(ctx context.Context, n *node) error {
	ctx, cancel := context.WithTimeoutCause(ctx, hearingWait, fmt.Errorf("not within %s", hearingWait))
	defer cancel()
	return waitFor(ctx, n.node.Name+" hears the primary", func(ctx context.Context) error {
		report, err := d.agentOps(n).report(ctx)
		if err != nil {
			return err
		}
		if !hearsPrimary(report) {
			return errors.New("its agent hears none")
		}
		return nil
	})
}

func hearsPrimary(report AgentReport) bool {
	return slices.ContainsFunc(report.Peers, func(peer PeerReport) bool { return peer.Role == rolePrimary && !peer.Lost })
}

// awaitFollowing reports whether the member becomes a secondary that is not in the
// middle of a rollback; false means that its mongod has ended.
func (d *drill) awaitFollowing(ctx context.Context, n *node, p *process.Process) (bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, rejoinWait, fmt.Errorf("not within %s", rejoinWait))
	defer cancel()
	ended := errors.New("mongod has ended")
	since := 0
	err := waitFor(ctx, n.node.Name+" follows the set", func(ctx context.Context) error {
		if !p.State().Running {
			cancel()
			return ended
		}
		report, err := d.agentOps(n).report(ctx)
		if err != nil {
			return err
		}
		newest := newestTerm(d.mongoStatus(ctx))
		if newest == 0 {
			since = 0
			return errors.New("no primary says how far it is")
		}
		if report.Role != roleSecondary || report.OpTime.Term < newest {
			since = 0
			return fmt.Errorf("it is %s, in term %d of %d", report.Role, report.OpTime.Term, newest)
		}
		if since++; since < 3 {
			return errors.New("it has only just begun to")
		}
		return nil
	})
	if err != nil && !p.State().Running {
		return false, nil
	}
	return err == nil, err
}

// newestTerm is the term of the primary's newest operation; 0 while that is not known.
func newestTerm(status MongoStatus) int64 {
	for _, m := range status.Members {
		if m.Node == status.Primary {
			return m.OpTime.Term
		}
	}
	return 0
}

// salvage writes what a member has and the set has not to a file, from a mongod that
// is started on its data for that alone.
func (d *drill) salvage(ctx context.Context, n *node) error {
	spec, address := d.planner.salvager(n.place)
	reader, err := process.Start(ctx, n.machine, spec)
	if err != nil {
		return err
	}
	defer func() { _ = reader.Stop(context.WithoutCancel(ctx), stopGrace) }()
	err = waitFor(ctx, "its log can be read", func(ctx context.Context) error {
		if !reader.State().Running {
			return errors.New("the mongod that reads it has ended: " + howEnded(reader))
		}
		var conn net.Conn
		if conn, err = n.machine.DialContext(ctx, "tcp", address.String()); err == nil {
			err = conn.Close()
		}
		return err
	})
	if err != nil {
		return err
	}
	file, err := d.rollback().create(n.node.Name, time.Now())
	if err != nil {
		return err
	}
	defer file.Close()
	if err := d.agentOps(n).salvage(ctx, address.String(), file); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	count := 0
	err = readSalvaged(file, func(u UndoneOperation) {
		count++
		d.lost.add(n.node.Name, u)
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", file.Name(), err)
	}
	d.say("%s had %d operations that the set has not; they are in %s", n.node.Name, count, file.Name())
	return reader.Stop(ctx, stopGrace)
}
