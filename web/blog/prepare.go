package blog

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Foundation is what Prepare makes where it is missing.
type Foundation struct {
	// BlogName and Tagline are those of MainBlog.
	BlogName, Tagline string
	// Administrator and Password are the first user; "" makes none.
	Administrator, Password string
	Now                     time.Time
}

// indexNotFound is the database's code for an index that is not there.
const indexNotFound = 27

// Prepare makes the indexes, the first blog and the first administrator, and gives
// entries of older versions their blog and slug. It changes nothing that is there,
// and may be called by several processes at once.
func (s *Store) Prepare(ctx context.Context, f Foundation) error {
	if err := s.adopt(ctx); err != nil {
		return err
	}
	if err := s.makeIndexes(ctx); err != nil {
		return err
	}
	if err := s.setOnce(ctx, s.guards, administrators, bson.D{{Key: "guarded", Value: int64(0)}}); err != nil {
		return err
	}
	err := s.setOnce(ctx, s.blogs, MainBlog, bson.D{
		{Key: "name", Value: f.BlogName},
		{Key: "tagline", Value: f.Tagline},
		{Key: "revision", Value: int64(1)},
		{Key: "created", Value: f.Now},
		{Key: "updated", Value: f.Now},
		{Key: "edit", Value: ""},
	})
	if err != nil || f.Administrator == "" {
		return err
	}
	return s.addAdministrator(ctx, f.Administrator, f.Password, f.Now)
}

// adopt completes entries that were written before entries had a blog.
func (s *Store) adopt(ctx context.Context) error {
	set := mongo.Pipeline{bson.D{{Key: "$set", Value: bson.D{
		{Key: "blog", Value: MainBlog}, {Key: "slug", Value: "$_id"}, {Key: "updated", Value: "$created"}, {Key: "revision", Value: int64(1)},
	}}}}
	return s.do(ctx, WriteTimeout, func(ctx context.Context) error {
		_, err := s.entries.UpdateMany(ctx, bson.D{{Key: "slug", Value: bson.D{{Key: "$exists", Value: false}}}}, set)
		return err
	})
}

// setOnce makes a document unless there is one with its ID.
func (s *Store) setOnce(ctx context.Context, collection *mongo.Collection, id string, document bson.D) error {
	return s.do(ctx, WriteTimeout, func(ctx context.Context) error {
		_, err := collection.UpdateOne(ctx, bson.D{{Key: "_id", Value: id}}, bson.D{{Key: "$setOnInsert", Value: document}}, options.UpdateOne().SetUpsert(true))
		if mongo.IsDuplicateKeyError(err) {
			return nil // another process was faster
		}
		return err
	})
}

func (s *Store) makeIndexes(ctx context.Context) error {
	after := func(field string, d time.Duration) mongo.IndexModel {
		return mongo.IndexModel{Keys: bson.D{{Key: field, Value: 1}}, Options: options.Index().SetExpireAfterSeconds(int32(d.Seconds()))}
	}
	ascending := func(fields ...string) (keys bson.D) {
		for _, field := range fields {
			keys = append(keys, bson.E{Key: field, Value: 1})
		}
		return keys
	}
	newestFirst := bson.D{{Key: "created", Value: -1}, {Key: "_id", Value: -1}}
	// The address of a deleted entry is free at once.
	hasSlug := bson.D{{Key: "slug", Value: bson.D{{Key: "$exists", Value: true}}}, notDeleted()}
	indexes := []struct {
		collection *mongo.Collection
		models     []mongo.IndexModel
	}{
		{s.entries, []mongo.IndexModel{
			{Keys: newestFirst},
			{Keys: append(bson.D{{Key: "blog", Value: 1}}, newestFirst...)},
			{Keys: ascending("blog", "slug"), Options: options.Index().SetName("address").SetUnique(true).SetPartialFilterExpression(hasSlug)},
			after("deleted", UndoFor),
		}},
		{s.blogs, []mongo.IndexModel{after("deleted", UndoFor)}},
		{s.sessions, []mongo.IndexModel{after("expires", 0)}},
		{s.attempts, []mongo.IndexModel{after("at", AttemptsFor), {Keys: ascending("address", "at")}, {Keys: ascending("name", "at")}}},
	}
	for _, index := range indexes {
		err := s.do(ctx, WriteTimeout, func(ctx context.Context) error {
			// Not all voting members, as is the default: one may be down.
			_, err := index.collection.Indexes().CreateMany(ctx, index.models, options.CreateIndexes().SetCommitQuorumMajority())
			return err
		})
		if err != nil {
			return err
		}
	}
	s.indexed.Store(true)
	return s.dropOldIndex(ctx)
}

// dropOldIndex drops the index of older versions by which a deleted entry kept its
// address. The one in its place is there before.
func (s *Store) dropOldIndex(ctx context.Context) error {
	return s.do(ctx, WriteTimeout, func(ctx context.Context) error {
		err := s.entries.Indexes().DropOne(ctx, "blog_1_slug_1")
		var answer mongo.ServerError
		if errors.As(err, &answer) && answer.HasErrorCode(indexNotFound) {
			return nil
		}
		return err
	})
}
