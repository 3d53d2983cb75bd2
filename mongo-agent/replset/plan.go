package replset

import (
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Timing is how fast the set itself notices a lost member. The zero value
// leaves MongoDB's defaults: 2 s and 10 s.
type Timing struct {
	// Heartbeat is heartbeatIntervalMillis, and Election electionTimeoutMillis.
	Heartbeat, Election time.Duration
}

// settings returns the set's settings.
func (t Timing) settings() bson.D {
	settings := bson.D{}
	if t.Heartbeat > 0 {
		settings = append(settings, bson.E{Key: "heartbeatIntervalMillis", Value: int32(t.Heartbeat.Milliseconds())})
	}
	if t.Election > 0 {
		settings = append(settings, bson.E{Key: "electionTimeoutMillis", Value: int32(t.Election.Milliseconds())})
	}
	return settings
}

// situation is all that the decision to initiate depends on.
type situation struct {
	// Configured says that the own member has a configuration.
	Configured bool
	// Finished says that the set was completed once.
	Finished bool
	// Peers are the other members' answers.
	Peers []peer
}

// peer is what is known about another member.
type peer struct {
	Address string
	// Set is the name of the set it belongs to; empty if it is not initiated.
	Set string
	// Err says why it could not be asked.
	Err error
}

type step uint8

const (
	initiate step = iota // make a set of the own member
	extend               // add the members that are missing
	leave                // all is done; touch nothing
)

// decide says what to do next, or why nothing may be done yet.
func decide(s situation) (step, error) {
	switch {
	case s.Configured && s.Finished:
		return leave, nil
	case s.Configured:
		return extend, nil
	}
	for _, p := range s.Peers {
		if p.Set != "" {
			return leave, fmt.Errorf("this member has no configuration but %s belongs to %q: "+
				"initiating would split the set; it gets its configuration from the others", p.Address, p.Set)
		}
	}
	if !s.Finished {
		return initiate, nil
	}
	for _, p := range s.Peers {
		if p.Err != nil {
			return leave, fmt.Errorf("the set was initiated before, and %s cannot be asked whether it still holds it: %w", p.Address, p.Err)
		}
	}
	return initiate, nil
}

// Member is one member of the set.
type Member struct {
	// Address is its name in the set, "host:port".
	Address string `json:"address"`
	// Datacenter is the value of its tag "dc"; empty is no tag.
	Datacenter string `json:"datacenter"`
}

// MultiDC is the write concern that waits for one member in each of two datacenters
// (MongoDB manual, "Custom multi-datacenter write concerns"). A set has it for as long
// as its members are in two.
const MultiDC = "multiDC"

// tagDC is the tag that says where a member is.
const tagDC = "dc"

// first returns the configuration of a set that has one member.
func first(set string, m Member, timing Timing) bson.D {
	return bson.D{
		{Key: "_id", Value: set},
		{Key: "version", Value: 1},
		{Key: "members", Value: bson.A{m.entry(0)}},
		{Key: "settings", Value: timing.settings()},
	}
}

// entry returns one member's entry. All have the same priority: unequal ones
// cost a second change of primary after each recovery.
func (m Member) entry(id int32) bson.D {
	entry := bson.D{
		{Key: "_id", Value: id},
		{Key: "host", Value: m.Address},
		{Key: "priority", Value: 1},
		{Key: "votes", Value: 1},
	}
	if m.Datacenter != "" {
		entry = append(entry, bson.E{Key: "tags", Value: bson.D{{Key: tagDC, Value: m.Datacenter}}})
	}
	return entry
}

// current is the part of a configuration that next reads.
type current struct {
	Version int64   `bson:"version"`
	Members []entry `bson:"members"`
}

type entry struct {
	ID    int32             `bson:"_id"`
	Host  string            `bson:"host"`
	Votes int               `bson:"votes"`
	Tags  map[string]string `bson:"tags"`
}

func read(config bson.D) (current, error) {
	var now current
	raw, err := bson.Marshal(config)
	if err == nil {
		err = bson.Unmarshal(raw, &now)
	}
	if err != nil {
		return now, fmt.Errorf("read the configuration: %w", err)
	}
	return now, nil
}

// change is one reconfiguration: at most one member more or less (MongoDB manual,
// "replSetReconfig": a majority of the old and of the new set must overlap).
type change struct {
	config bson.D
	// added, removed and revoted, which gets its vote back, are the addresses; all are
	// empty if there is nothing to change.
	added, removed, revoted string
}

func (c change) empty() bool { return c.added == "" && c.removed == "" && c.revoted == "" }

// next returns the change that brings the configuration nearer to members: the first
// that is missing is added; if none is, the first without a vote gets one; if all have one
// and surplus ones are not to stay, the last of those is removed. Everything else in
// the configuration stays as it is.
func next(config bson.D, members []Member, prune bool) (change, error) {
	now, err := read(config)
	if err != nil {
		return change{}, err
	}
	id := int32(0)
	for _, m := range now.Members {
		id = max(id, m.ID+1)
	}
	for _, m := range members {
		if !slices.ContainsFunc(now.Members, func(e entry) bool { return e.Host == m.Address }) {
			extended, err := with(config, now.Version+1, func(all bson.A) bson.A { return append(all, m.entry(id)) })
			return change{config: extended, added: m.Address}, err
		}
	}
	for i, m := range now.Members {
		if m.Votes == 0 && slices.ContainsFunc(members, func(wanted Member) bool { return wanted.Address == m.Host }) {
			revoted, err := with(config, now.Version+1, func(all bson.A) bson.A { return vote(all, i, 1) })
			return change{config: revoted, revoted: m.Host}, err
		}
	}
	for i := len(now.Members) - 1; prune && i >= 0; i-- {
		host := now.Members[i].Host
		if !slices.ContainsFunc(members, func(m Member) bool { return m.Address == host }) {
			reduced, err := with(config, now.Version+1, func(all bson.A) bson.A { return slices.Delete(all, i, i+1) })
			return change{config: reduced, removed: host}, err
		}
	}
	return change{}, nil
}

// forced returns the configuration in which only voters vote and can be elected. The
// others stay in it: when they come back they learn that they have lost their votes,
// and copy.
func forced(config bson.D, voters []string) (bson.D, error) {
	now, err := read(config)
	if err != nil {
		return nil, err
	}
	for _, voter := range voters {
		if !slices.ContainsFunc(now.Members, func(e entry) bool { return e.Host == voter }) {
			return nil, fmt.Errorf("%s is no member of the set", voter)
		}
	}
	return with(config, now.Version+1, func(all bson.A) bson.A {
		for i, m := range now.Members {
			votes := int32(0)
			if slices.Contains(voters, m.Host) {
				votes = 1
			}
			all = vote(all, i, votes)
		}
		return all
	})
}

// vote returns members of which one has so many votes, 0 or 1, and the priority that
// goes with it.
func vote(members bson.A, i int, votes int32) bson.A {
	out := slices.Clone(members)
	if member, ok := out[i].(bson.D); ok {
		out[i] = replaced(replaced(member, "votes", votes), "priority", float64(votes))
	}
	return out
}

// with returns the configuration with other members and the write concern that fits
// them.
func with(config bson.D, version int64, edit func(bson.A) bson.A) (bson.D, error) {
	out := slices.Clone(config)
	done := false
	for i, e := range out {
		switch e.Key {
		case "version":
			out[i].Value = version
		case "members":
			members, ok := e.Value.(bson.A)
			if !ok {
				return nil, fmt.Errorf("read the configuration: members is a %T", e.Value)
			}
			out[i].Value = edit(slices.Clone(members))
			done = true
		}
	}
	if !done {
		return nil, fmt.Errorf("read the configuration: it has no members")
	}
	return withModes(out)
}

// withModes sets the custom write concerns: MultiDC where members are in more than one
// datacenter, else none of that name, because a mode that no members can satisfy is
// refused.
func withModes(config bson.D) (bson.D, error) {
	now, err := read(config)
	if err != nil {
		return nil, err
	}
	places := map[string]bool{}
	for _, m := range now.Members {
		if place := m.Tags[tagDC]; place != "" {
			places[place] = true
		}
	}
	settings, _ := value(config, "settings").(bson.D)
	modes, _ := value(settings, "getLastErrorModes").(bson.D)
	modes = slices.DeleteFunc(slices.Clone(modes), func(e bson.E) bool { return e.Key == MultiDC })
	if len(places) > 1 {
		modes = append(modes, bson.E{Key: MultiDC, Value: bson.D{{Key: tagDC, Value: 2}}})
	}
	if value(settings, "getLastErrorModes") == nil && len(modes) == 0 {
		return config, nil
	}
	return replaced(config, "settings", replaced(settings, "getLastErrorModes", modes)), nil
}

func value(document bson.D, key string) any {
	for _, e := range document {
		if e.Key == key {
			return e.Value
		}
	}
	return nil
}

func replaced(document bson.D, key string, with any) bson.D {
	out := slices.Clone(document)
	for i := range out {
		if out[i].Key == key {
			out[i].Value = with
			return out
		}
	}
	return append(out, bson.E{Key: key, Value: with})
}
