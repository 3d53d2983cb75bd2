package blog

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Blogs returns all blogs by name.
func (s *Store) Blogs(ctx context.Context) ([]Blog, error) {
	var blogs []Blog
	err := s.do(ctx, ReadTimeout, func(ctx context.Context) error {
		blogs = nil
		return all(ctx, s.blogs, bson.D{notDeleted()}, options.Find().SetSort(bson.D{{Key: "name", Value: 1}, {Key: "_id", Value: 1}}), &blogs)
	})
	return blogs, err
}

// Blog returns a blog by its ID, or ErrNotFound.
func (s *Store) Blog(ctx context.Context, id string) (Blog, error) {
	var blog Blog
	err := s.do(ctx, ReadTimeout, func(ctx context.Context) error {
		blog = Blog{}
		return one(ctx, s.blogs, bson.D{{Key: "_id", Value: id}, notDeleted()}, &blog)
	})
	return blog, err
}

// DeletedBlogs returns the blogs that can still be had back at the time now.
func (s *Store) DeletedBlogs(ctx context.Context, now time.Time) ([]Blog, error) {
	filter := bson.D{{Key: "deleted", Value: bson.D{{Key: "$gt", Value: now.Add(-UndoFor)}}}}
	var blogs []Blog
	err := s.do(ctx, ReadTimeout, func(ctx context.Context) error {
		blogs = nil
		return all(ctx, s.blogs, filter, options.Find().SetLimit(20), &blogs)
	})
	return blogs, err
}

// AddBlog stores a new blog as its first revision; ErrSlugTaken means that its ID
// is in use, ErrConflict that the same edit was stored with other words, and ErrNotFound
// that it was, and is deleted since.
func (s *Store) AddBlog(ctx context.Context, blog Blog) error {
	if blog.ID == Visitors {
		return ErrSlugTaken
	}
	blog.Revision = 1
	return s.do(ctx, WriteTimeout, func(ctx context.Context) error {
		_, err := s.blogs.InsertOne(ctx, blog)
		if !mongo.IsDuplicateKeyError(err) {
			return err
		}
		var stored Blog
		err = one(ctx, majority(s.blogs), bson.D{{Key: "_id", Value: blog.ID}}, &stored)
		switch {
		case errors.Is(err, ErrNotFound):
			return errPending // a primary alone has it, which may roll it back: see committed
		case err != nil:
			return err
		case stored.Edit != blog.Edit:
			return ErrSlugTaken
		case stored.Name == blog.Name && stored.Tagline == blog.Tagline:
			return nil
		case !stored.Deleted.IsZero():
			return ErrNotFound
		default:
			return ErrConflict
		}
	})
}

// ChangeBlog writes name and tagline over revision blog.Revision, as ChangeEntry
// does.
func (s *Store) ChangeBlog(ctx context.Context, blog Blog) error {
	words := bson.D{{Key: "name", Value: blog.Name}, {Key: "tagline", Value: blog.Tagline}}
	return s.change(ctx, s.blogs, revised{id: blog.ID, revision: blog.Revision, edit: blog.Edit, words: words}, bson.D{{Key: "updated", Value: blog.Updated}})
}
