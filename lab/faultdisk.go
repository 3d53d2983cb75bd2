package lab

import (
	"context"
	"errors"

	"sluice/lab/control"
	"sluice/lab/disk"
)

// ails reports whether something ails the disk of the node's mongod.
func (n *node) ails() bool { return n.disk != nil && n.disk.Ailment() != disk.Healthy }

// diskTarget is the target under which a disk's fault is written down.
func diskTarget(n *node) string { return n.node.Name + "/" + processMongod }

// disk makes the disk of a node's mongod ail.
func (s *Supervisor) disk(target string, ailment disk.Ailment) ([]faultStep, error) {
	if ailment != disk.Full && ailment != disk.Stalled {
		return nil, fail(control.ExitUsage, "sluice fault disk NODE full|stall", "disk %s %q: want full or stall", target, ailment)
	}
	n, err := s.find(target)
	if err != nil {
		return nil, err
	}
	mongod := n.process(processMongod)
	if n.disk == nil || mongod == nil {
		return nil, n.noProcess(processMongod)
	}
	if !mongod.State().Running {
		return nil, fail(control.ExitUsage, "sluice fault heal "+target, "disk %s %s: mongod is not running", target, ailment)
	}
	if !n.disk.Reports() {
		return nil, fail(control.ExitMissing, "it takes Linux 5.9 with seccomp, on amd64 or arm64", "disk %s %s: %v", target, ailment, disk.ErrNoReports)
	}
	what := "filled the disk of " + diskTarget(n)
	if ailment == disk.Stalled {
		what = "stalled the disk of " + diskTarget(n)
	}
	makes := FaultRecord{Action: FaultDisk, Target: diskTarget(n), Detail: string(ailment)}
	return []faultStep{{what: what, makes: makes, do: func(context.Context) error {
		err := n.disk.Set(ailment)
		if err != nil && !n.ails() {
			// Nothing ails, so there is nothing to heal.
			return errors.Join(err, s.faults.remove(diskTarget(n), FaultDisk))
		}
		return err
	}}}, nil
}

func healDisk(n *node) faultStep {
	return faultStep{
		what: "healed the disk of " + diskTarget(n), target: diskTarget(n), heals: []FaultAction{FaultDisk},
		do: func(context.Context) error { return n.disk.Set(disk.Healthy) },
	}
}
