package blog

import (
	"context"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Mark is a place in the order of the entries: by the time of their creation and,
// where that is the same, by their ID. No entry needs to be there.
type Mark struct {
	Created time.Time
	ID      string
}

// Mark returns the entry's place.
func (e Entry) Mark() Mark { return Mark{e.Created, e.ID} }

// Page is some of the entries that a query selects, newest first.
type Page struct {
	Entries []Entry
	// More says that there are older ones, Newer that there are newer ones. Beside a
	// mark that is so by definition, and not looked up.
	More, Newer bool
}

// beyond selects what lies on one side of a mark. Each branch is a range of the index
// that the entries are ordered by, so that nothing of the other side is looked at.
func (m Mark) beyond(operator string) bson.E {
	other := func(value any) bson.D { return bson.D{{Key: operator, Value: value}} }
	return bson.E{Key: "$or", Value: bson.A{
		bson.D{{Key: "created", Value: m.Created}, {Key: "_id", Value: other(m.ID)}},
		bson.D{{Key: "created", Value: other(m.Created)}},
	}}
}

// Entries returns the page that q selects.
func (s *Store) Entries(ctx context.Context, q Query) (Page, error) {
	direction := -1
	if q.After != nil {
		direction = 1
	}
	order := bson.D{{Key: "created", Value: direction}, {Key: "_id", Value: direction}}
	find := options.Find().SetSort(order).SetSkip(q.Skip).SetLimit(q.Limit + 1)
	var page Page
	err := s.do(ctx, ReadTimeout, func(ctx context.Context) error {
		page = Page{}
		return all(ctx, s.entries, q.filter(), find, &page.Entries)
	})
	further := int64(len(page.Entries)) > q.Limit
	if further {
		page.Entries = page.Entries[:q.Limit]
	}
	if q.After != nil {
		slices.Reverse(page.Entries)
		page.More, page.Newer = true, further
	} else {
		page.More, page.Newer = further, q.Before != nil || q.Skip > 0
	}
	return page, err
}
