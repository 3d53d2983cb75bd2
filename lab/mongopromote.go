package lab

import (
	"context"
	"fmt"
	"time"

	"sluice/lab/control"
)

// promote is the break-glass for a set that has lost its majority with a datacenter:
// the members of another one become the only voters. It says first what may be lost.
func (d *drill) promote(ctx context.Context, request MongoRequest) error {
	if !d.runs(request.Datacenter) {
		return fail(control.ExitUsage, "sluice status", "promote: no datacenter %q runs", request.Datacenter)
	}
	status := d.mongoStatus(ctx)
	chosen, err := promotable(status, request.Datacenter)
	if err != nil {
		return fail(exitRefused, "sluice mongo status", "promote %s: %v", request.Datacenter, err)
	}
	stake := stakeOf(status, request.Datacenter, chosen)
	d.result.AtStake = &stake
	tell := d.say
	if request.DryRun {
		tell = d.plan
	}
	for _, line := range stake.sentences(request.Datacenter) {
		tell("%s", line)
	}
	if request.DryRun {
		return nil
	}
	n, err := d.member(chosen.Node)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := d.agentOps(n).promote(ctx, request.Datacenter); err != nil {
		return refusal("promote "+request.Datacenter, err)
	}
	d.say("only the members in %s vote now, %.0f ms", request.Datacenter, 1000*time.Since(began).Seconds())
	primary := ""
	err = waitFor(ctx, "a member in "+request.Datacenter+" is primary", func(ctx context.Context) error {
		for _, m := range d.mongoStatus(ctx).Members {
			if m.Datacenter == request.Datacenter && m.Role == rolePrimary {
				primary = m.Node
				return nil
			}
		}
		return fmt.Errorf("no member in %s is primary", request.Datacenter)
	})
	if err != nil {
		return fail(2, "sluice mongo status", "promote %s: %v", request.Datacenter, err)
	}
	d.say("%s is primary and takes writes, %.0f ms", primary, 1000*time.Since(began).Seconds())
	return nil
}

// promotable returns the member of a datacenter with the longest log, or why the
// datacenter must not be promoted: a primary that any of its members hears makes a
// hand-over the better way.
func promotable(status MongoStatus, datacenter string) (MongoMember, error) {
	var chosen MongoMember
	voters, healthy := 0, 0
	for _, m := range status.Members {
		if m.Datacenter != datacenter {
			continue
		}
		voters++
		switch {
		case m.Role == rolePrimary:
			return m, fmt.Errorf("%s is primary already", m.Node)
		case m.Report == nil || m.Role != roleSecondary:
			continue
		}
		for _, peer := range m.Report.Peers {
			if peer.Role == rolePrimary && !peer.Lost {
				return m, fmt.Errorf("%s hears the primary, %s; `sluice mongo stepdown --to %s` loses nothing", m.Node, peer.Node, m.Node)
			}
		}
		healthy++
		if chosen.Node == "" || chosen.OpTime.before(m.OpTime) {
			chosen = m
		}
	}
	if chosen.Node == "" {
		return chosen, fmt.Errorf("no member in %s is a healthy secondary", datacenter)
	}
	if 2*healthy <= voters {
		return chosen, fmt.Errorf("only %d of its %d members are healthy, and they would be no majority of themselves: start the others first", healthy, voters)
	}
	return chosen, nil
}

// String writes the operation's time of day, to the second as MongoDB has it, and its
// place within the second.
func (t OpTime) String() string {
	return fmt.Sprintf("%s.%d (term %d)", time.Unix(int64(t.Timestamp>>32), 0).UTC().Format(time.TimeOnly), uint32(t.Timestamp), t.Term)
}
