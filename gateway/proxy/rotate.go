package proxy

import (
	"time"

	"sluice/mesh"
)

// rotate retires connections that present a leaf that was replaced. Requests in
// flight finish on them.
func (f *follower) rotate(heard time.Time) {
	if f.cfg.Credentials == nil {
		return
	}
	credentials, err := f.cfg.Credentials.Credentials()
	if err != nil || credentials.Certificate == nil {
		return
	}
	var from mesh.Provenance
	if traced, ok := f.cfg.Credentials.(TracedCredentials); ok {
		from = traced.Provenance()
	}
	f.followRoots(credentials.Roots, from, heard)
	serial := credentials.Certificate.Leaf.SerialNumber.Text(16)
	before := f.serial
	f.serial = serial
	if before == "" || before == serial {
		return
	}
	f.log.Info("a new leaf: connections with the old one are retired", "serial", serial)
	f.metrics.rotations.Inc()
	for _, c := range f.fleet.crews {
		for _, t := range c.targets {
			for m, w := range t.wires {
				if !m.plain {
					w.retire()
				}
			}
		}
	}
	now := time.Now()
	f.timeline.add(Event{
		At: now, Kind: "leaf", Subject: serial, Text: "a new leaf; connections with the old one, " + before + ", are retired",
		Index: from.LeafIndex, Effect: now.Sub(heard),
	})
}
