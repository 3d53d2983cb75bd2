package lab

import "fmt"

// MongoSide is the replica set as the members of one datacenter see it.
type MongoSide struct {
	Datacenter string `json:"datacenter"`
	// ReadOnly says why nothing can be written from there; empty while it can.
	ReadOnly string `json:"read_only,omitempty"`
}

// sidesOf says for each datacenter whether a primary is in reach of its members, and if
// not, whether enough members hear each other to elect one. It asks nobody.
func sidesOf(members []MongoMember) []MongoSide {
	var sides []MongoSide
	best := map[string]int{}
	for _, m := range members {
		i, known := best[m.Datacenter]
		if !known {
			i = len(sides)
			best[m.Datacenter] = i
			sides = append(sides, MongoSide{Datacenter: m.Datacenter, ReadOnly: "read-only: no agent of the replica set answers"})
		}
		if m.Report == nil || sides[i].ReadOnly == "" {
			continue
		}
		sides[i].ReadOnly = m.readOnly()
	}
	return sides
}

// readOnly says why nothing can be written where the member is, by what its agent
// hears; "" if it hears a primary. Agents list only voters among their peers.
func (m MongoMember) readOnly() string {
	voters, heard := 0, 0
	if m.Report.Voter {
		voters, heard = 1, 1
	}
	if m.Role == rolePrimary && m.Report.Fence == "" {
		return ""
	}
	for _, peer := range m.Report.Peers {
		voters++
		if peer.Lost {
			continue
		}
		heard++
		if peer.Role == rolePrimary {
			return ""
		}
	}
	if 2*heard <= voters {
		return fmt.Sprintf("read-only: no majority, %d of %d", heard, voters)
	}
	return fmt.Sprintf("read-only: no primary yet, %d of %d voters hear each other", heard, voters)
}
