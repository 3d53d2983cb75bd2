package blog

import "testing"

func TestOnlyMembersWithAVoteCount(t *testing.T) {
	voter := func(id int) setMember { return setMember{ID: id, Votes: 1} }
	up := func(id int) setMember { return setMember{ID: id, Health: 1} }
	five := []setMember{voter(0), voter(1), voter(2), voter(3), voter(4)}
	for name, c := range map[string]struct {
		configured, seen []setMember
		want             Quorum
		majority         bool
	}{
		"nobody has said":           {nil, nil, Quorum{}, false},
		"all":                       {five, []setMember{up(0), up(1), up(2), up(3), up(4)}, Quorum{5, 5}, true},
		"a datacenter is gone":      {five, []setMember{{ID: 0}, {ID: 1}, {ID: 2}, up(3), up(4)}, Quorum{2, 5}, false},
		"three of five":             {five, []setMember{up(0), up(1), up(2), {ID: 3}, {ID: 4}}, Quorum{3, 5}, true},
		"half is no majority":       {five[:4], []setMember{up(0), up(1)}, Quorum{2, 4}, false},
		"who has no vote is not it": {[]setMember{voter(0), {ID: 1}, voter(2)}, []setMember{up(0), up(1)}, Quorum{1, 2}, false},
		"numbers with a gap":        {[]setMember{voter(3), voter(7)}, []setMember{up(7), up(3)}, Quorum{2, 2}, true},
	} {
		if got := quorumOf(c.configured, c.seen); got != c.want || got.Majority() != c.majority {
			t.Errorf("%s: %+v, majority %v; want %+v, %v", name, got, got.Majority(), c.want, c.majority)
		}
	}
}
