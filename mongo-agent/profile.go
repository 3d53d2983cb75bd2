package main

import (
	"errors"
	"flag"
	"fmt"
	"time"

	"sluice/internal/service"
	"sluice/mongo-agent/replset"
)

// The profiles of -profile.
const (
	profileFast  = "fast"
	profileStock = "stock"
)

// profile is how eagerly an agent looks for trouble, and whether it helps.
type profile struct {
	// Heartbeat is the pause between two heartbeats to another agent, and Limit
	// the silence after which that agent counts as lost.
	Heartbeat, Limit time.Duration
	// Assist lets the agent ask its mongod to stand for election.
	Assist bool
	// Steer lets the agent lead its mongod to a new primary.
	Steer bool
	// Timing is the set's, when it is initiated.
	Timing replset.Timing
}

// profileNamed returns a profile's values, before flags change them.
func profileNamed(name string) (profile, error) {
	switch name {
	case profileFast:
		// With a limit of 450 ms a machine whose processors were taken away for a
		// moment fenced a healthy primary, see docs/failover.md.
		return profile{
			Heartbeat: 100 * time.Millisecond, Limit: 700 * time.Millisecond, Assist: true, Steer: true,
			Timing: replset.Timing{Heartbeat: 500 * time.Millisecond, Election: 2 * time.Second},
		}, nil
	case profileStock:
		return profile{Heartbeat: 200 * time.Millisecond, Limit: 700 * time.Millisecond}, nil
	default:
		return profile{}, errors.New("want fast or stock")
	}
}

// profileFlags are the flags that choose a profile and change single values of it.
type profileFlags struct {
	name, assist, steer string
	heartbeat, limit    time.Duration
}

func (f *profileFlags) bind(fs *flag.FlagSet) {
	fs.StringVar(&f.name, "profile", profileFast, "fast (short times, assisted election) or stock (MongoDB's defaults, no help)")
	fs.StringVar(&f.assist, "assist", "", "on or off: ask mongod to stand for election when the primary is lost (default by profile)")
	fs.StringVar(&f.steer, "steer", "", "on or off: lead mongod to a new primary, so that it need not look for one (default by profile)")
	fs.DurationVar(&f.heartbeat, "heartbeat-interval", 0, "pause between heartbeats to the other agents (default by profile: 100ms or 200ms)")
	fs.DurationVar(&f.limit, "heartbeat-limit", 0, "silence after which an agent is lost (default 700ms)")
}

// resolve returns what the flags say, as one usage error if they make no sense.
func (f *profileFlags) resolve() (profile, error) {
	p, err := profileNamed(f.name)
	if err != nil {
		return p, service.UsageError{Err: fmt.Errorf("-profile %q: %w", f.name, err)}
	}
	var problems []error
	for _, s := range []struct {
		flag, value string
		target      *bool
	}{{"assist", f.assist, &p.Assist}, {"steer", f.steer, &p.Steer}} {
		switch s.value {
		case "":
		case "on", "off":
			*s.target = s.value == "on"
		default:
			problems = append(problems, fmt.Errorf("-%s %q: want on or off", s.flag, s.value))
		}
	}
	if f.heartbeat != 0 {
		p.Heartbeat = f.heartbeat
	}
	if f.limit != 0 {
		p.Limit = f.limit
	}
	if p.Heartbeat < time.Millisecond || p.Limit < 2*p.Heartbeat {
		problems = append(problems, fmt.Errorf("-heartbeat-limit %v: want at least two intervals (%v)", p.Limit, p.Heartbeat))
	}
	if p.Limit > time.Second {
		// The lease of a primary is as long as the limit.
		problems = append(problems, fmt.Errorf("-heartbeat-limit %v: want at most 1s: a cut-off primary would go on for as long", p.Limit))
	}
	if len(problems) > 0 {
		return p, service.UsageError{Err: errors.Join(problems...)}
	}
	return p, nil
}
