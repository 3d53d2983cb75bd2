// Package fence decides when a primary must not be served although its mongod
// says that it is one: a mongod that was cut off or did not run for a while is
// the last to hear of its successor.
//
// It is pure. Consul has no part in it: a primary whose peers confirm it goes on
// without Consul.
package fence

import (
	"fmt"
	"time"
)

// Facts are what the decision depends on.
type Facts struct {
	// Term is the election term in which the own member is, or was, primary.
	Term int64
	// HighestTerm is the highest that any other agent has spoken of, and Knower
	// its node.
	HighestTerm int64
	Knower      string
	// Lease is until when a majority of the agents has confirmed this one; see
	// heartbeat.View.Lease.
	Lease time.Time
	// HandingOver is the node that the role is being handed to, if any.
	HandingOver string
}

// Reason returns why a primary must not be served at now; empty if it may.
func Reason(now time.Time, f Facts) string {
	switch {
	case f.HandingOver != "":
		return "it is handing over to " + f.HandingOver
	case f.HighestTerm > f.Term:
		return fmt.Sprintf("%s knows of the election term %d, and this is %d", f.Knower, f.HighestTerm, f.Term)
	case f.Lease.IsZero():
		return "no majority of the agents has answered yet"
	case !now.Before(f.Lease):
		// No duration in it: a reason that changes all the time is news all the time.
		return "its confirmation by a majority of the agents ended at " + f.Lease.Format("15:04:05.000")
	default:
		return ""
	}
}
