package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"sluice/ledger"
)

// ReadBack reads every document of the run, until it succeeds or ctx ends. A
// failure is in the result.
//
// A mark is written to a majority first, and the read is ordered after it in the
// same session: a member that answers holds the mark, and with it everything that
// was acknowledged before. A primary that has been replaced can do neither.
func (m *Mongo) ReadBack(ctx context.Context, header ledger.Header) ledger.Final {
	var final ledger.Final
	pause := firstPause
	for {
		documents, err := m.readBack(ctx, header)
		if err == nil {
			return ledger.Final{Documents: documents, Confirmed: true}
		}
		if ctx.Err() == nil || final.Error == "" {
			final.Error = describe(err)
		}
		if stranger(err) || !wait(ctx, pause) {
			return final
		}
		pause = min(2*pause, maxPause)
	}
}

// stranger reports whether the set does not know the user, which no repetition
// changes.
func stranger(err error) bool {
	var answer mongo.ServerError
	return errors.As(err, &answer) && (answer.HasErrorCode(13) || answer.HasErrorCode(18))
}

// attemptTimeout bounds one attempt to read back.
const attemptTimeout = 20 * time.Second

func (m *Mongo) readBack(ctx context.Context, header ledger.Header) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	entries := m.client.Database(database).Collection(collection, options.Collection().
		SetReadConcern(readconcern.Majority()).SetWriteConcern(writeconcern.Majority()))
	session, err := m.client.StartSession(options.Session().SetCausalConsistency(true))
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	defer session.EndSession(ctx)
	var documents []string
	err = mongo.WithSession(ctx, session, func(ctx context.Context) error {
		mark := bson.D{{Key: "_id", Value: "check " + rand.Text()}}
		if _, err := entries.InsertOne(ctx, mark); err != nil {
			return err
		}
		if documents, err = identities(ctx, entries, header); err != nil {
			return err
		}
		_, err := entries.DeleteOne(ctx, mark)
		return err
	})
	return documents, err
}

// identities returns the identities of the run's documents. The character after
// "/" is "0".
func identities(ctx context.Context, entries *mongo.Collection, header ledger.Header) ([]string, error) {
	cursor, err := entries.Find(ctx,
		bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: header.Run + "/"}, {Key: "$lt", Value: header.Run + "0"}}}},
		options.Find().SetBatchSize(10_000))
	if err != nil {
		return nil, err
	}
	defer cursor.Close(ctx)
	var documents []string
	for cursor.Next(ctx) {
		var document struct {
			ID string `bson:"_id"`
		}
		if err := cursor.Decode(&document); err != nil {
			return nil, err
		}
		documents = append(documents, document.ID)
	}
	return documents, cursor.Err()
}
