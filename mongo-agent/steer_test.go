package main

import (
	"testing"

	"sluice/mongo-agent/heartbeat"
	"sluice/mongo-agent/role"
)

func TestTheNewestElectionWins(t *testing.T) {
	won := func(node, round string) heartbeat.Peer {
		return heartbeat.Peer{Node: node, Known: true, Status: heartbeat.Status{Node: node, Standing: round, Won: true}}
	}
	lost := won("mongo-3", "mongo-1@9")
	lost.Lost = true
	standing := won("mongo-3", "mongo-1@9")
	standing.Status.Won = false
	for _, c := range []struct {
		name  string
		peers []heartbeat.Peer
		want  string
	}{
		{"nobody has won", []heartbeat.Peer{{Node: "mongo-1", Known: true}}, ""},
		{"one has won", []heartbeat.Peer{won("mongo-1", "mongo-2@3")}, "mongo-1"},
		{"an older winner that comes first", []heartbeat.Peer{won("mongo-1", "mongo-3@7"), won("mongo-2", "mongo-1@8")}, "mongo-2"},
		{"an older winner that comes last", []heartbeat.Peer{won("mongo-1", "mongo-2@11"), won("mongo-2", "mongo-1@9")}, "mongo-1"},
		{"a newer winner that is lost", []heartbeat.Peer{won("mongo-1", "mongo-2@3"), lost}, "mongo-1"},
		{"one that only stands", []heartbeat.Peer{won("mongo-1", "mongo-2@3"), standing}, "mongo-1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, _, _ := winner(heartbeat.View{Peers: c.peers}); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestWhatWasWonIsOverWithTheRole(t *testing.T) {
	s := newSelf(heartbeat.New(heartbeat.Config{Nodes: []string{"mongo-2"}}), "mongo-1", "127.0.10.1:27017")
	s.standing("mongo-2@3", true)
	for _, state := range []role.State{role.Secondary, role.Primary} {
		s.heard(role.Snapshot{State: state, Set: "consuldemo", Term: 4})
		if !s.load().Won {
			t.Fatalf("%s: the election is forgotten before the role is", state)
		}
	}
	s.heard(role.Snapshot{State: role.Dead, Term: 4})
	if now := s.load(); now.Won || now.Standing != "" {
		t.Errorf("a dead primary still says that it has won: %+v", now)
	}
}
