package failover

import (
	"slices"
	"time"

	"sluice/drills/rig"
	"sluice/ledger"
	"sluice/mesh"
)

// Moment is something that happened, in milliseconds after the fault.
type Moment struct {
	What string  `json:"what"`
	MS   float64 `json:"ms"`
	Who  string  `json:"who,omitempty"`
}

// Timeline puts what the agents, web's upstream and the ledger say of one fault
// into an order. They are on one machine, so their clocks are one. What nobody
// tells is absent.
func Timeline(injected time.Time, roles map[string]rig.Role, switches []mesh.Switch, gap ledger.Gap) []Moment {
	var moments []Moment
	add := func(what, who string, at time.Time) {
		if !at.Before(injected.Add(-50 * time.Millisecond)) {
			moments = append(moments, Moment{What: what, Who: who, MS: milliseconds(at.Sub(injected))})
		}
	}
	after := func(from time.Time, ms *float64, what, who string) {
		if ms != nil {
			add(what, who, from.Add(time.Duration(*ms*float64(time.Millisecond))))
		}
	}
	for node, role := range roles {
		for _, election := range role.Elections {
			add("failure known: "+election.Why, node, election.At)
			after(election.At, &election.Decided, "step-up decided", node)
			if election.Outcome == "won" {
				after(election.At, election.Elected, "elected", node)
			}
		}
		for _, t := range role.Transitions {
			switch {
			case t.To == "primary" && t.Accepted == nil:
				add("fenced: "+t.Reason, node, t.Detected)
			case t.To == "primary":
				add("writable", node, t.Detected)
				after(t.Detected, t.Accepted, "its port accepts", node)
				after(t.Detected, t.Registered, "registered", node)
			case t.From == "primary":
				add("old primary known to be over", node, t.Detected)
				after(t.Detected, t.Cut, "its connections cut", node)
			}
		}
	}
	for _, s := range switches {
		add("web noticed", "", s.Lost)
		if !s.FirstReleased.IsZero() {
			add("first held connection released", "", s.FirstReleased)
		}
	}
	add("last acknowledged write before", "", gap.Began)
	add("first acknowledged write", "", gap.Ended)
	slices.SortStableFunc(moments, func(x, y Moment) int {
		switch {
		case x.MS < y.MS:
			return -1
		case x.MS > y.MS:
			return 1
		default:
			return 0
		}
	})
	return moments
}
