package mesh

import (
	"log/slog"

	"sluice/intentions"
)

// reasonDenied is what a connection says that a change of intentions has cut.
const reasonDenied = "denied by a change of intentions"

// enforce judges again the live connections that owner made: those that set does
// not allow are reset at once, the others are not touched.
//
// A connection that was authorized by an older set and is registered after this
// pass is caught by its own side: it judges itself by the newest set after it
// has been registered (Conn.enter).
func (t *Table) enforce(owner any, set intentions.Set, logger *slog.Logger) {
	type edge struct{ source, destination string }
	verdicts := make(map[edge]intentions.Decision)
	cuts := make(map[edge]int)
	for _, c := range t.conns(owner) {
		e := edge{c.edge.Source.Service(), c.edge.Destination.Service()}
		decision, known := verdicts[e]
		if !known {
			decision = set.Decide(e.source, e.destination)
			verdicts[e] = decision
		}
		c.decision.Store(&decision)
		if !decision.Allowed && c.cut(reasonDenied) {
			t.count.cutDenied.Add(1)
			cuts[e]++
		}
	}
	for e, n := range cuts {
		logger.Info("live connections cut", "source", e.source, "destination", e.destination,
			"verdict", "deny", "reason", verdicts[e].String(), "connections", n)
	}
}

// enter registers c and then judges it by the newest policy: between the verdict
// that admitted it and now, a change may have come and gone. It reports whether
// the connection may live; if not, it has not been cut.
func (c *Conn) enter(policy func() (Policy, bool)) bool {
	c.register(c.table.now())
	newest, ok := policy()
	if !ok {
		return true
	}
	decision := newest.Set.Decide(c.edge.Source.Service(), c.edge.Destination.Service())
	c.decision.Store(&decision)
	return decision.Allowed
}
