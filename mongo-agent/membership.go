package main

import (
	"slices"

	"sluice/mongo-agent/election"
	"sluice/mongo-agent/heartbeat"
)

// admitMembers takes the members that mongod's configuration says can be elected.
// The others count for no majority of the agents, as they do not for one of the
// mongods: a member that may join later, and one that has no vote.
func (a *agent) admitMembers(hosts []string) {
	if len(hosts) == 0 {
		return // it has no configuration yet, or none any more
	}
	var others []string
	elected := false
	for _, m := range a.Members {
		switch {
		case !slices.Contains(hosts, m.Address):
		case m.Node == a.Node:
			elected = true
		default:
			others = append(others, m.Node)
		}
	}
	a.electable.Store(elected)
	a.circle.Restrict(others)
}

// picture is what is known about all members that can be elected.
func (a *agent) picture(view heartbeat.View) election.Picture {
	picture := election.Picture{Me: a.Node}
	for _, m := range a.Members {
		status, reached := a.self.load(), a.electable.Load()
		if m.Node == a.Node && !reached {
			continue
		}
		if m.Node != a.Node {
			peer, ok := view.Peer(m.Node)
			if !ok {
				continue
			}
			status, reached = peer.Status, peer.Known && !peer.Lost
		}
		picture.Members = append(picture.Members, election.Member{
			Node: m.Node, Address: m.Address, Reached: reached, Role: status.Role, Frozen: status.Frozen, Term: status.Term,
			OpTime: status.OpTime, Source: status.Source, Lost: status.Lost, Round: status.Round, Standing: status.Standing, Successor: status.Successor,
		})
	}
	return picture
}
