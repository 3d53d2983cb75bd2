package main

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"sluice/mongo-agent/election"
	"sluice/mongo-agent/mongod"
)

const (
	// standTimeout bounds one election, from the request to its end.
	standTimeout = 2 * time.Second
	// Between two looks while a primary is missing; without news, they get rarer.
	assistPauseMin = 5 * time.Millisecond
	assistPauseMax = 500 * time.Millisecond
)

// assist asks the own mongod to stand for election when the primary is lost,
// until ctx ends.
func (a *agent) assist(ctx context.Context) error {
	helper := election.NewHelper(election.DefaultLimits())
	pause, last := assistPauseMin, ""
	timer := time.NewTimer(assistPauseMax)
	defer timer.Stop()
	for ctx.Err() == nil {
		view, news := a.circle.View()
		_, changed := a.board.Snapshot()
		advice, failed := helper.Look(time.Now(), a.picture(view))
		if seen := advice.Round() + advice.Wait; seen != last {
			pause, last = assistPauseMin, seen
			if failed {
				a.logger.Info("primary is missing", "why", advice.Why, "term", advice.Term, "wait", advice.Wait)
			}
		}
		if failed && (a.self.begin(advice.Round(), time.Now()) || advice.Planned) {
			a.follower.Ask()
		}
		if failed && advice.Stand && (a.profile.Assist || advice.Planned) {
			helper.Tried(time.Now())
			a.stand(ctx, advice)
			helper.Ended(time.Now())
			continue
		}
		timer.Reset(pause)
		if pause = min(2*pause, assistPauseMax); advice.Planned {
			pause = assistPauseMin
		}
		select {
		case <-ctx.Done():
		case <-news:
		case <-changed:
		case <-timer.C:
		}
	}
	return nil
}

// stand asks the own mongod to stand for election, and the one that has won not
// to wait for operations of members that do not answer: what was acknowledged by
// a majority, it has.
func (a *agent) stand(ctx context.Context, advice election.Advice) {
	ctx, cancel := context.WithTimeout(ctx, standTimeout)
	defer cancel()
	try := attempt{
		At: advice.Since, Why: advice.Why, Subject: advice.Subject, Helper: a.Node,
		Decided: millis(time.Since(advice.Since)), Planned: advice.Planned,
	}
	a.self.standing(advice.Round(), false)
	a.logger.Info("standing for election", "why", advice.Why, "after", advice.Term)
	err := mongod.Admin(ctx, a.system, bson.D{{Key: "replSetStepUp", Value: 1}, {Key: "skipDryRun", Value: true}}, nil)
	took := millis(time.Since(advice.Since))
	try.Elected = &took
	switch {
	case err == nil:
		try.Outcome = electionWon
		a.self.standing(advice.Round(), true)
		err := mongod.Admin(ctx, a.system, bson.D{{Key: "replSetAbortPrimaryCatchUp", Value: 1}}, nil)
		try.Aborted = err == nil
		a.follower.Ask()
	case mongod.IsAnswer(err):
		try.Outcome, try.Error = electionRefused, err.Error()
	default:
		try.Outcome, try.Error = electionFailed, err.Error()
	}
	if try.Outcome != electionWon {
		a.self.standing("", false)
	}
	a.record.add(try)
	a.logger.Info("stood for election", "outcome", try.Outcome, "took", time.Duration(took), "err", try.Error)
}
