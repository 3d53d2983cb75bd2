// Package salvage finds the operations that one member has and the set has not: what
// a rollback undoes. MongoDB keeps such documents itself, in rollback files, as long
// as no majority had acknowledged them. After a forced configuration one may have; a
// member then refuses to roll back and ends. Its log still holds what is lost.
package salvage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// batch is how many operations are looked for at once.
const batch = 500

// ErrNothingInCommon means that the two logs share no operation: one of them reaches
// not far enough back.
var ErrNothingInCommon = errors.New("the logs have no operation in common")

// Lost is one operation that only the one member has.
type Lost struct {
	// At and Term are its place in the log.
	At   bson.Timestamp `bson:"ts"`
	Term int64          `bson:"term"`
	// Operation is insert, update, delete or command.
	Operation string `bson:"operation"`
	Namespace string `bson:"ns"`
	// ID is the document's _id; zero for a command.
	ID bson.RawValue `bson:"id,omitempty"`
	// Document is what the log holds: the whole document of an insert, the change of
	// an update, the _id of a delete, a command.
	Document bson.Raw `bson:"document"`
}

// entry is an operation as the log has it (MongoDB: repl::OplogEntry).
type entry struct {
	At     bson.Timestamp `bson:"ts"`
	Term   int64          `bson:"t"`
	Kind   string         `bson:"op"`
	NS     string         `bson:"ns"`
	Object bson.Raw       `bson:"o"`
	Which  bson.Raw       `bson:"o2"`
}

func logOf(client *mongo.Client) *mongo.Collection {
	return client.Database("local").Collection("oplog.rs")
}

// Find calls each for every operation that member's log has after the last one that it
// shares with set's, oldest first. It reads only.
func Find(ctx context.Context, member, set *mongo.Client, each func(Lost) error) (common bson.Timestamp, err error) {
	if common, err = shared(ctx, logOf(member), logOf(set)); err != nil {
		return common, err
	}
	cursor, err := logOf(member).Find(ctx, bson.D{{Key: "ts", Value: bson.D{{Key: "$gt", Value: common}}}},
		options.Find().SetSort(bson.D{{Key: "$natural", Value: 1}}))
	if err != nil {
		return common, fmt.Errorf("read the member's log: %w", err)
	}
	defer func() { err = errors.Join(err, cursor.Close(context.WithoutCancel(ctx))) }()
	for cursor.Next(ctx) {
		var e entry
		if err := cursor.Decode(&e); err != nil {
			return common, fmt.Errorf("read an operation: %w", err)
		}
		if err := e.lost(each); err != nil {
			return common, err
		}
	}
	return common, cursor.Err()
}

// shared returns the newest operation that both logs have. What is older than a shared
// operation is shared, so the first batch with one decides.
func shared(ctx context.Context, member, set *mongo.Collection) (common bson.Timestamp, err error) {
	cursor, err := member.Find(ctx, bson.D{}, options.Find().SetSort(bson.D{{Key: "$natural", Value: -1}}).
		SetProjection(bson.D{{Key: "ts", Value: 1}, {Key: "t", Value: 1}}).SetBatchSize(batch))
	if err != nil {
		return common, fmt.Errorf("read the member's log: %w", err)
	}
	defer func() { err = errors.Join(err, cursor.Close(context.WithoutCancel(ctx))) }()
	for more := true; more; {
		places := make([]entry, 0, batch)
		for len(places) < batch {
			if more = cursor.Next(ctx); !more {
				break
			}
			var e entry
			if err := cursor.Decode(&e); err != nil {
				return common, fmt.Errorf("read an operation: %w", err)
			}
			places = append(places, e)
		}
		there, err := among(ctx, set, places)
		if err != nil {
			return common, err
		}
		for _, e := range places {
			if term, ok := there[e.At]; ok && term == e.Term {
				return e.At, nil
			}
		}
	}
	if err := cursor.Err(); err != nil {
		return common, fmt.Errorf("read the member's log: %w", err)
	}
	return common, ErrNothingInCommon
}

// among returns the terms of those operations that the set's log has.
func among(ctx context.Context, set *mongo.Collection, places []entry) (map[bson.Timestamp]int64, error) {
	if len(places) == 0 {
		return nil, nil
	}
	times := make(bson.A, len(places))
	for i, e := range places {
		times[i] = e.At
	}
	// The range keeps mongod from reading the whole log: it finds the start by time.
	filter := bson.D{{Key: "ts", Value: bson.D{{Key: "$gte", Value: places[len(places)-1].At}, {Key: "$lte", Value: places[0].At}, {Key: "$in", Value: times}}}}
	cursor, err := set.Find(ctx, filter, options.Find().SetProjection(bson.D{{Key: "ts", Value: 1}, {Key: "t", Value: 1}}))
	if err != nil {
		return nil, fmt.Errorf("read the set's log: %w", err)
	}
	var found []entry
	if err := cursor.All(ctx, &found); err != nil {
		return nil, fmt.Errorf("read the set's log: %w", err)
	}
	there := make(map[bson.Timestamp]int64, len(found))
	for _, e := range found {
		there[e.At] = e.Term
	}
	return there, nil
}

// lost tells what an operation changed. Those within a transaction are told one by one;
// what the members keep for themselves, and operations that change nothing, are left
// out.
func (e entry) lost(each func(Lost) error) error {
	operation, known := map[string]string{"i": "insert", "u": "update", "d": "delete", "c": "command"}[e.Kind]
	database, _, _ := strings.Cut(e.NS, ".")
	switch {
	case !known || database == "local" || database == "config":
		return nil
	case e.Kind == "c":
		if inner, ok := e.Object.Lookup("applyOps").ArrayOK(); ok {
			return e.within(bson.Raw(inner), each)
		}
	}
	lost := Lost{At: e.At, Term: e.Term, Operation: operation, Namespace: e.NS, Document: e.Object}
	switch e.Kind {
	case "i", "d":
		lost.ID = e.Object.Lookup("_id")
	case "u":
		lost.ID = e.Which.Lookup("_id")
	}
	return each(lost)
}

func (e entry) within(operations bson.Raw, each func(Lost) error) error {
	values, err := operations.Values()
	if err != nil {
		return fmt.Errorf("read a transaction: %w", err)
	}
	for _, value := range values {
		var inner entry
		if err := value.Unmarshal(&inner); err != nil {
			return fmt.Errorf("read a transaction: %w", err)
		}
		inner.At, inner.Term = e.At, e.Term
		if err := inner.lost(each); err != nil {
			return err
		}
	}
	return nil
}
