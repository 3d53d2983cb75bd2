package blog

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// withBlog is the field of an entry that was deleted with its blog: it comes back
// with it, and not alone.
const withBlog = "deleted_with"

func nextRevision() bson.E {
	return bson.E{Key: "$inc", Value: bson.D{{Key: "revision", Value: int64(1)}}}
}

// inBlog writes what is to be in a blog, in one transaction with a write to the blog:
// of this and a deletion of the blog at the same time, the later one sees the earlier.
// It is ErrNoBlog if there is no such blog. An id of "" and Visitors are no blogs, and
// need none.
func (s *Store) inBlog(ctx context.Context, id string, write func(ctx context.Context) error) error {
	if id == "" || id == Visitors {
		return write(ctx)
	}
	return s.transaction(ctx, func(ctx context.Context) error {
		err := guard(ctx, s.blogs, bson.D{{Key: "_id", Value: id}, notDeleted()})
		if errors.Is(err, ErrNotFound) {
			return ErrNoBlog
		}
		if err != nil {
			return err
		}
		return write(ctx)
	})
}

// DeleteBlog hides a blog with all its entries, or neither; UndeleteBlog within
// UndoFor brings them back. Deleting what is deleted is no error.
func (s *Store) DeleteBlog(ctx context.Context, id string, now time.Time) error {
	hidden := bson.E{Key: "$set", Value: bson.D{{Key: "deleted", Value: now}, {Key: withBlog, Value: id}}}
	return s.do(ctx, WriteTimeout, func(ctx context.Context) error {
		return s.transaction(ctx, func(ctx context.Context) error {
			// The blog first: an entry that is being added holds it.
			err := guard(ctx, s.blogs, bson.D{{Key: "_id", Value: id}, notDeleted()})
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			entries, err := s.entries.UpdateMany(ctx, bson.D{{Key: "blog", Value: id}, notDeleted()}, bson.D{hidden, nextRevision()})
			if err != nil {
				return err
			}
			deleted := bson.E{Key: "$set", Value: bson.D{{Key: "deleted", Value: now}, {Key: "entries", Value: entries.ModifiedCount}}}
			_, err = s.blogs.UpdateOne(ctx, bson.D{{Key: "_id", Value: id}}, bson.D{deleted, nextRevision()})
			return err
		})
	})
}

// UndeleteBlog brings a blog back with the entries that were deleted with it, or is
// ErrNotFound when it is too late.
func (s *Store) UndeleteBlog(ctx context.Context, id string, now time.Time) error {
	return s.do(ctx, WriteTimeout, func(ctx context.Context) error {
		return s.transaction(ctx, func(ctx context.Context) error {
			if err := unhide(ctx, s.blogs, id, now); err != nil {
				return err
			}
			// Not those of an earlier blog of this ID, which nobody has swept away yet.
			with := bson.D{{Key: withBlog, Value: id}, {Key: "deleted", Value: bson.D{{Key: "$gt", Value: now.Add(-UndoFor)}}}}
			_, err := s.entries.UpdateMany(ctx, with, shown())
			return err
		})
	})
}

// UndeleteEntry brings an entry back, or is ErrNotFound when it is too late, ErrNoBlog
// when its blog is deleted, and ErrSlugTaken when another entry has its address since.
func (s *Store) UndeleteEntry(ctx context.Context, id string, now time.Time) error {
	return s.do(ctx, WriteTimeout, func(ctx context.Context) error {
		var entry struct {
			Blog     string `bson:"blog"`
			WithBlog string `bson:"deleted_with"`
		}
		if err := one(ctx, s.entries, bson.D{{Key: "_id", Value: id}}, &entry); err != nil {
			return err
		}
		if entry.WithBlog != "" {
			return ErrNoBlog
		}
		err := s.inBlog(ctx, entry.Blog, func(ctx context.Context) error { return unhide(ctx, s.entries, id, now) })
		if mongo.IsDuplicateKeyError(err) {
			return ErrSlugTaken
		}
		return err
	})
}

func unhide(ctx context.Context, collection *mongo.Collection, id string, now time.Time) error {
	filter := bson.D{{Key: "_id", Value: id}, {Key: "$or", Value: bson.A{
		bson.D{{Key: "deleted", Value: bson.D{{Key: "$gt", Value: now.Add(-UndoFor)}}}},
		bson.D{notDeleted()}, // brought back before
	}}}
	result, err := collection.UpdateOne(ctx, filter, shown())
	if err == nil && result.MatchedCount == 0 {
		return ErrNotFound
	}
	return err
}

func shown() bson.D {
	return bson.D{{Key: "$unset", Value: bson.D{{Key: "deleted", Value: ""}, {Key: withBlog, Value: ""}, {Key: "entries", Value: ""}}}}
}
