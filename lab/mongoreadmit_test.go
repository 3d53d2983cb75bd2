package lab

import (
	"slices"
	"testing"
)

func TestMembersWithoutAVoteAreThoseThatThePrimaryDoesNotCount(t *testing.T) {
	names := func(members []MongoMember) []string {
		var nodes []string
		for _, m := range voteless(judgeSet(members)) {
			nodes = append(nodes, m.Node)
		}
		return nodes
	}
	if got := names(set()); len(got) > 0 {
		t.Errorf("of a whole set: %q", got)
	}
	members := set()
	members[0].Report.Peers = members[0].Report.Peers[:1] // mongo-2
	if got := names(members); !slices.Equal(got, []string{"mongo-3"}) {
		t.Errorf("of a primary that counts mongo-2 alone: %q", got)
	}
	if status := judgeSet(members); !uncounted(status, "mongo-3") || uncounted(status, "mongo-2") || uncounted(status, "mongo-1") {
		t.Error("another one than mongo-3 is left to readmit")
	}
	members[0].Report.Role = roleSecondary
	if uncounted(judgeSet(members), "mongo-3") {
		t.Error("a member is left to readmit although there is no primary that does without it")
	}
}

func TestAMemberIsStartedOnlyWhenItsAgentHearsThePrimary(t *testing.T) {
	for name, c := range map[string]struct {
		peers []PeerReport
		want  bool
	}{
		"nobody yet":        {nil, false},
		"its own side only": {[]PeerReport{{Node: "mongo-2", Role: "dead"}, {Node: "mongo-4", Role: rolePrimary, Lost: true}}, false},
		"the primary":       {[]PeerReport{{Node: "mongo-2", Role: "dead"}, {Node: "mongo-4", Role: rolePrimary}}, true},
	} {
		if got := hearsPrimary(AgentReport{Peers: c.peers}); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
