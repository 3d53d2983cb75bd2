package lab

import (
	"context"
	"errors"
	"slices"
	"time"

	"sluice/lab/control"
)

// restartable are the processes that a rolling restart may restart, in the order
// in which it does: an agent last, since it carries its mongod's traffic.
func restartable(what string) ([]string, error) {
	switch what {
	case processMongod, processMongoAgent:
		return []string{what}, nil
	case "all", "":
		return []string{processMongod, processMongoAgent}, nil
	}
	return nil, fail(control.ExitUsage, "", "--what %s: want mongod, mongo-agent or all", what)
}

// rollingOrder puts the primary last: each hand-over costs clients a moment, and
// so there is one.
func rollingOrder(status MongoStatus) []string {
	var order []string
	for _, m := range status.Members {
		if m.Node != status.Primary {
			order = append(order, m.Node)
		}
	}
	slices.Sort(order)
	return append(order, status.Primary)
}

// handOverAgain is how long a hand-over is asked for again.
const handOverAgain = 30 * time.Second

func (d *drill) rolling(ctx context.Context, request MongoRequest) error {
	names, err := restartable(request.What)
	if err != nil {
		return err
	}
	status := d.mongoStatus(ctx)
	if err := healthySet(status); err != nil {
		return fail(exitRefused, "sluice mongo status", "rolling-restart: the set is not whole: %v", err)
	}
	for _, name := range rollingOrder(status) {
		if request.DryRun {
			d.plan("%s: would restart %s", name, joinWords(names))
			continue
		}
		for _, process := range names {
			if err := d.restartOne(ctx, name, process); err != nil {
				return err
			}
		}
	}
	return nil
}

// restartOne restarts one process of one member. A primary hands over first.
func (d *drill) restartOne(ctx context.Context, name, process string) error {
	n, err := d.member(name)
	if err != nil {
		return err
	}
	if status := d.mongoStatus(ctx); status.Primary == name {
		if err := d.handOverSoon(ctx, name); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := n.process(process).Restart(ctx); err != nil {
		return fail(2, "sluice mongo status", "restart of %s/%s: %v", name, process, err)
	}
	if err := d.awaitWhole(ctx, "the set is whole after "+name+"/"+process); err != nil {
		return fail(2, "sluice mongo status", "rolling-restart stopped at %s/%s: %v", name, process, err)
	}
	d.say("%s/%s restarted, the set is whole after %.1f s", name, process, time.Since(began).Seconds())
	return nil
}

// handOverSoon is handOver that asks again for a while: the member that was
// restarted last may have something to catch up with.
func (d *drill) handOverSoon(ctx context.Context, from string) error {
	deadline := time.Now().Add(handOverAgain)
	for {
		err := d.handOver(ctx, from, "")
		var failed *control.Error
		if !errors.As(err, &failed) || failed.Code != exitRefused || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * pollInterval):
		}
	}
}
