package blog

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

const (
	// MainBlog is the ID of the blog that Prepare makes.
	MainBlog = "main"
	// UndoFor is how long what was deleted can be had back.
	UndoFor = time.Minute
)

// Blog is one blog.
type Blog struct {
	// ID is the blog's name in addresses.
	ID       string    `bson:"_id"`
	Name     string    `bson:"name"`
	Tagline  string    `bson:"tagline"`
	Created  time.Time `bson:"created"`
	Updated  time.Time `bson:"updated"`
	Revision int64     `bson:"revision"`
	Edit     string    `bson:"edit"`
	Deleted  time.Time `bson:"deleted,omitempty"`
	// Entries is how many entries were deleted with the blog.
	Entries int64 `bson:"entries,omitempty"`
}

// Query selects entries.
type Query struct {
	// Blog is a blog's ID; "" is all of them.
	Blog string
	// Headline is part of the headline, in any case; "" is every headline.
	Headline string
	// Limit is how many entries a page has at most. They are the newest ones, but for
	// the Skip newest, all of which the database looks at.
	Skip, Limit int64
	// Before selects the newest of those that are older than a mark, After the oldest
	// of those that are newer: wherever the mark is, at the cost of the newest page.
	// Nil selects from the newest; After is not for use with Skip or Before.
	Before, After *Mark
}

func notDeleted() bson.E { return bson.E{Key: "deleted", Value: nil} }

func (q Query) filter() bson.D {
	filter := bson.D{notDeleted()}
	if q.Blog != "" {
		filter = append(filter, bson.E{Key: "blog", Value: q.Blog})
	}
	if q.Headline != "" {
		pattern := bson.Regex{Pattern: regexp.QuoteMeta(q.Headline), Options: "i"}
		filter = append(filter, bson.E{Key: "title", Value: pattern})
	}
	if q.Before != nil {
		filter = append(filter, q.Before.beyond("$lt"))
	}
	if q.After != nil {
		filter = append(filter, q.After.beyond("$gt"))
	}
	return filter
}

// EntryBySlug returns one entry of a blog, or ErrNotFound.
func (s *Store) EntryBySlug(ctx context.Context, blog, slug string) (Entry, error) {
	return s.entry(ctx, bson.D{{Key: "blog", Value: blog}, {Key: "slug", Value: slug}, notDeleted()})
}

// Entry returns an entry by its ID, or ErrNotFound.
func (s *Store) Entry(ctx context.Context, id string) (Entry, error) {
	return s.entry(ctx, bson.D{{Key: "_id", Value: id}, notDeleted()})
}

func (s *Store) entry(ctx context.Context, filter bson.D) (Entry, error) {
	var entry Entry
	err := s.do(ctx, ReadTimeout, func(ctx context.Context) error {
		entry = Entry{}
		return one(ctx, s.entries, filter, &entry)
	})
	return entry, err
}

// Deleted returns the entries that can still be had back at the time now, but for
// those that were deleted with their blog.
func (s *Store) Deleted(ctx context.Context, now time.Time) ([]Entry, error) {
	filter := bson.D{{Key: "deleted", Value: bson.D{{Key: "$gt", Value: now.Add(-UndoFor)}}}, {Key: withBlog, Value: nil}}
	var entries []Entry
	err := s.do(ctx, ReadTimeout, func(ctx context.Context) error {
		return all(ctx, s.entries, filter, options.Find().SetLimit(20).SetSort(bson.D{{Key: "deleted", Value: -1}}), &entries)
	})
	return entries, err
}

// says reports whether two entries are the same to whoever wrote them.
func (e Entry) says(other Entry) bool {
	return e.Title == other.Title && e.Body == other.Body && e.Slug == other.Slug && e.Blog == other.Blog
}

// AddEntry stores a new entry of a blog as its first revision. It is Add with a slug
// and a blog, so that it can be ErrSlugTaken and ErrNoBlog, too. Where the entry is
// already there it is ErrConflict when the same edit was stored with other words, or when
// somebody has changed it since, and ErrNotFound when it was deleted since.
func (s *Store) AddEntry(ctx context.Context, entry Entry) error {
	entry.Revision = 1
	return s.do(ctx, WriteTimeout, func(ctx context.Context) error {
		err := s.inBlog(ctx, entry.Blog, func(ctx context.Context) error {
			_, err := s.entries.InsertOne(ctx, entry)
			return err
		})
		if !mongo.IsDuplicateKeyError(err) {
			return err
		}
		var own Entry
		if gone := one(ctx, s.entries, bson.D{{Key: "_id", Value: entry.ID}}, &own); errors.Is(gone, ErrNotFound) && duplicates(err, "slug") {
			return ErrSlugTaken
		}
		stored, err := s.committed(ctx, entry.ID)
		switch {
		case err != nil:
			return err
		case stored.Edit == entry.Edit && stored.says(entry):
			return nil
		case !stored.Deleted.IsZero():
			return ErrNotFound
		default:
			return ErrConflict
		}
	})
}

// ChangeEntry writes entry over its revision entry.Revision and makes the next. Who
// has written it first stays its author.
// It is ErrConflict when there is a newer one or when the same edit was stored with
// other words, ErrSlugTaken, ErrNoBlog, or ErrNotFound.
func (s *Store) ChangeEntry(ctx context.Context, entry Entry) error {
	words := bson.D{
		{Key: "title", Value: entry.Title},
		{Key: "body", Value: entry.Body},
		{Key: "slug", Value: entry.Slug},
		{Key: "blog", Value: entry.Blog},
	}
	return s.change(ctx, s.entries, revised{entry.ID, entry.Revision, entry.Edit, entry.Blog, words}, bson.D{
		{Key: "editor", Value: entry.Editor}, {Key: "updated", Value: entry.Updated},
	})
}

// revised names the revision that a change is made to, and the change.
type revised struct {
	id       string
	revision int64
	edit     string
	// blog is the one that the document is in after the change, "" for none.
	blog string
	// words are the fields that are changed, as somebody typed them.
	words bson.D
}

// done reports whether a document is what the change makes of it.
func (r revised) done(document bson.Raw) bool {
	for _, field := range append(bson.D{{Key: "edit", Value: r.edit}}, r.words...) {
		if text, is := document.Lookup(field.Key).StringValueOK(); !is || text != field.Value {
			return false
		}
	}
	return true
}

// change writes to one revision of a document, once: what it finds done by the
// same edit is done. beside are the fields that it writes beside the words.
func (s *Store) change(ctx context.Context, collection *mongo.Collection, of revised, beside bson.D) error {
	set := slices.Concat(of.words, beside, bson.D{{Key: "edit", Value: of.edit}})
	filter := bson.D{{Key: "_id", Value: of.id}, {Key: "revision", Value: of.revision}, notDeleted()}
	update := bson.D{{Key: "$set", Value: set}, nextRevision()}
	return s.do(ctx, WriteTimeout, func(ctx context.Context) error {
		done := false
		err := s.inBlog(ctx, of.blog, func(ctx context.Context) error {
			result, err := collection.UpdateOne(ctx, filter, update)
			done = err == nil && result.MatchedCount == 1
			return err
		})
		if mongo.IsDuplicateKeyError(err) {
			return ErrSlugTaken
		}
		if err != nil || done {
			return err
		}
		return of.became(ctx, collection)
	})
}

// became returns what a change that found no such revision has come to: nil if it was
// done before.
func (r revised) became(ctx context.Context, collection *mongo.Collection) error {
	var stored struct {
		Revision int64     `bson:"revision"`
		Deleted  time.Time `bson:"deleted"`
	}
	var document bson.Raw
	// What a primary alone has can be rolled back: see committed.
	err := one(ctx, majority(collection), bson.D{{Key: "_id", Value: r.id}}, &document)
	if err == nil {
		err = bson.Unmarshal(document, &stored)
	}
	switch {
	case err != nil:
		return err
	case r.done(document):
		return nil
	case !stored.Deleted.IsZero():
		return ErrNotFound
	case stored.Revision == r.revision:
		return errPending
	default:
		return ErrConflict
	}
}

// DeleteEntry hides an entry; UndeleteEntry within UndoFor brings it back.
// Deleting what is deleted is no error.
func (s *Store) DeleteEntry(ctx context.Context, id string, now time.Time) error {
	update := bson.D{{Key: "$set", Value: bson.D{{Key: "deleted", Value: now}}}, nextRevision()}
	return s.do(ctx, WriteTimeout, func(ctx context.Context) error {
		_, err := s.entries.UpdateOne(ctx, bson.D{{Key: "_id", Value: id}, notDeleted()}, update)
		return err
	})
}

// duplicates reports whether a duplicate key is one of the index over field.
func duplicates(err error, field string) bool {
	var write mongo.WriteException
	if !errors.As(err, &write) {
		return false
	}
	for _, e := range write.WriteErrors {
		if _, missing := e.Raw.LookupErr("keyPattern", field); missing == nil {
			return true
		}
	}
	return false
}

// one decodes the document that filter selects, or is ErrNotFound.
func one(ctx context.Context, collection *mongo.Collection, filter bson.D, into any) error {
	err := collection.FindOne(ctx, filter).Decode(into)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return ErrNotFound
	}
	return err
}

func all(ctx context.Context, collection *mongo.Collection, filter bson.D, find *options.FindOptionsBuilder, into any) error {
	cursor, err := collection.Find(ctx, filter, find)
	if err != nil {
		return err
	}
	return cursor.All(ctx, into)
}
