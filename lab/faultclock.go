package lab

import (
	"context"
	"errors"
	"time"

	"sluice/lab/clock"
	"sluice/lab/control"
)

// maxClockOffset bounds by how much a clock is set wrong: further off, mongod
// takes the others' time for impossible (maxAcceptableLogicalClockDriftSecs).
const maxClockOffset = 300 * 24 * time.Hour

// clockOff reports whether the clock of the node's mongod is wrong.
func (n *node) clockOff() bool { return n.clock != nil && n.clock.Offset() != 0 }

// setClock restarts a node's mongod with a clock that is wrong by offset. A primary
// hands over before.
func (s *Supervisor) setClock(target string, offset time.Duration) ([]faultStep, error) {
	const hint = "sluice fault clock NODE --ahead 1h"
	if offset == 0 || offset%time.Second != 0 || offset.Abs() > maxClockOffset {
		return nil, fail(control.ExitUsage, hint, "clock %s: want whole seconds ahead or behind, at most %s, not %s", target, maxClockOffset, offset)
	}
	n, err := s.find(target)
	if err != nil {
		return nil, err
	}
	if n.clock == nil || n.process(processMongod) == nil {
		return nil, n.noProcess(processMongod)
	}
	if err := clock.Able(); err != nil {
		return nil, fail(control.ExitMissing, "sudo apt-get install -y libfaketime", "clock %s: %v", target, err)
	}
	way := "ahead"
	if offset < 0 {
		way = "behind"
	}
	label := n.node.Name + "/" + processMongod
	return []faultStep{{
		what:  "set the clock of " + label + " " + offset.Abs().String() + " " + way,
		makes: FaultRecord{Action: FaultClock, Target: label, Detail: offset.Abs().String() + " " + way},
		do: func(ctx context.Context) error {
			if err := n.clock.Set(offset); err != nil {
				return errors.Join(err, s.faults.remove(label, FaultClock))
			}
			s.partWell(ctx, n)
			return n.process(processMongod).Restart(ctx)
		},
	}}, nil
}

// healClock sets the clock of a node's mongod right. One that does not run is left
// to whatever heals that.
func (s *Supervisor) healClock(n *node) faultStep {
	label := n.node.Name + "/" + processMongod
	return faultStep{
		what: "set the clock of " + label + " right", target: label, heals: []FaultAction{FaultClock},
		do: func(ctx context.Context) error {
			if err := n.clock.Set(0); err != nil {
				return err
			}
			mongod := n.process(processMongod)
			if state := mongod.State(); !state.Running || state.Stopped {
				return nil
			}
			s.partWell(ctx, n)
			return mongod.Restart(ctx)
		},
	}
}
