package blog

import (
	"context"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Quorum is how many of the members with a vote a member hears, itself among them.
// The zero value is not known.
type Quorum struct {
	Heard, Voters int
}

// Known reports whether anybody has said it.
func (q Quorum) Known() bool { return q.Voters > 0 }

// Majority reports whether those that are heard can elect a primary.
func (q Quorum) Majority() bool { return 2*q.Heard > q.Voters }

// setMember is a member as replSetGetConfig (votes) or replSetGetStatus (health)
// tells of it.
type setMember struct {
	ID     int     `bson:"_id"`
	Votes  int     `bson:"votes"`
	Health float64 `bson:"health"`
}

// Quorum asks the member at the other end whom it hears. The user needs the actions
// replSetGetConfig and replSetGetStatus.
func (s *Store) Quorum(ctx context.Context) (Quorum, error) {
	var configured struct {
		Config struct {
			Members []setMember `bson:"members"`
		} `bson:"config"`
	}
	var seen struct {
		Members []setMember `bson:"members"`
	}
	err := s.do(ctx, ReadTimeout, func(ctx context.Context) error {
		admin := s.client.Database("admin")
		if err := admin.RunCommand(ctx, bson.D{{Key: "replSetGetConfig", Value: 1}}).Decode(&configured); err != nil {
			return err
		}
		return admin.RunCommand(ctx, bson.D{{Key: "replSetGetStatus", Value: 1}}).Decode(&seen)
	})
	if err != nil {
		return Quorum{}, err
	}
	return quorumOf(configured.Config.Members, seen.Members), nil
}

func quorumOf(configured, seen []setMember) Quorum {
	var q Quorum
	for _, m := range configured {
		if m.Votes == 0 {
			continue
		}
		q.Voters++
		if slices.ContainsFunc(seen, func(s setMember) bool { return s.ID == m.ID && s.Health > 0 }) {
			q.Heard++
		}
	}
	return q
}
