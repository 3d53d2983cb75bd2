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

// first returns the configuration of a set that has one member.
func first(set, address string, timing Timing) bson.D {
	return bson.D{
		{Key: "_id", Value: set},
		{Key: "version", Value: 1},
		{Key: "members", Value: bson.A{member(0, address)}},
		{Key: "settings", Value: timing.settings()},
	}
}

// member returns one member's entry. All have the same priority: unequal ones
// cost a second change of primary after each recovery.
func member(id int32, address string) bson.D {
	return bson.D{
		{Key: "_id", Value: id},
		{Key: "host", Value: address},
		{Key: "priority", Value: 1},
		{Key: "votes", Value: 1},
	}
}

// current is the part of a configuration that next reads.
type current struct {
	Version int64   `bson:"version"`
	Members []entry `bson:"members"`
}

type entry struct {
	ID   int32  `bson:"_id"`
	Host string `bson:"host"`
}

// next returns the configuration with the first of addresses that is missing in
// it, and that address; "" means that none is missing. Everything else in the
// configuration stays as it is.
func next(config bson.D, addresses []string) (bson.D, string, error) {
	raw, err := bson.Marshal(config)
	if err != nil {
		return nil, "", fmt.Errorf("read the configuration: %w", err)
	}
	var now current
	if err := bson.Unmarshal(raw, &now); err != nil {
		return nil, "", fmt.Errorf("read the configuration: %w", err)
	}
	id := int32(0)
	for _, m := range now.Members {
		id = max(id, m.ID+1)
	}
	for _, address := range addresses {
		if slices.ContainsFunc(now.Members, func(m entry) bool { return m.Host == address }) {
			continue
		}
		extended, err := with(config, now.Version+1, member(id, address))
		return extended, address, err
	}
	return nil, "", nil
}

func with(config bson.D, version int64, added bson.D) (bson.D, error) {
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
			out[i].Value = append(slices.Clone(members), added)
			done = true
		}
	}
	if !done {
		return nil, fmt.Errorf("read the configuration: it has no members")
	}
	return out, nil
}
