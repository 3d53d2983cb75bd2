package lab

import "testing"

func TestASideWithoutAMajoritySaysHowManyItHas(t *testing.T) {
	member := func(node, dc, role string, peers ...PeerReport) MongoMember {
		return MongoMember{Node: node, Datacenter: dc, Role: role, Report: &AgentReport{Role: role, Peers: peers, Voter: true}}
	}
	lost := func(node string) PeerReport { return PeerReport{Node: node, Lost: true, Role: rolePrimary} }
	heard := func(node, role string) PeerReport { return PeerReport{Node: node, Role: role} }
	fenced := member("a", "dc1", rolePrimary, lost("b"), lost("c"))
	fenced.Report.Fence = "no majority"
	voteless := member("a", "dc1", roleSecondary, lost("d"), lost("e"))
	voteless.Report.Voter = false
	one := member("a", "dc1", roleSecondary, lost("d"), heard("e", roleSecondary))
	one.Report.Voter = false
	for name, test := range map[string]struct {
		members []MongoMember
		want    string
	}{
		"two of five":                         {[]MongoMember{member("d", "dc2", roleSecondary, lost("a"), lost("b"), lost("c"), heard("e", roleSecondary))}, "read-only: no majority, 2 of 5"},
		"the primary is heard":                {[]MongoMember{member("d", "dc2", roleSecondary, heard("a", rolePrimary), lost("b"), lost("c"), lost("e"))}, ""},
		"it is primary":                       {[]MongoMember{member("a", "dc1", rolePrimary, lost("b"))}, ""},
		"it is a fenced primary":              {[]MongoMember{fenced}, "read-only: no majority, 1 of 3"},
		"it has no vote itself":               {[]MongoMember{voteless}, "read-only: no majority, 0 of 2"},
		"it hears one of two and has no vote": {[]MongoMember{one}, "read-only: no majority, 1 of 2"},
		"an election is due":                  {[]MongoMember{member("a", "dc1", roleSecondary, lost("b"), heard("c", roleSecondary))}, "read-only: no primary yet, 2 of 3 voters hear each other"},
		"one of two hears it":                 {[]MongoMember{member("d", "dc2", roleSecondary, lost("a"), lost("e")), member("e", "dc2", roleSecondary, heard("a", rolePrimary), lost("d"))}, ""},
		"no agent answers":                    {[]MongoMember{{Node: "d", Datacenter: "dc2"}}, "read-only: no agent of the replica set answers"},
		"a side of its own alone":             {[]MongoMember{member("a", "dc1", roleSecondary)}, "read-only: no primary yet, 1 of 1 voters hear each other"},
	} {
		t.Run(name, func(t *testing.T) {
			sides := sidesOf(test.members)
			if len(sides) != 1 || sides[0].ReadOnly != test.want {
				t.Errorf("%+v, want %q", sides, test.want)
			}
		})
	}
}
