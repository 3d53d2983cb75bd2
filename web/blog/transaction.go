package blog

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

const (
	firstConflictPause = 2 * time.Millisecond
	maxConflictPause   = 60 * time.Millisecond
	// abortTimeout bounds an abort: the server gives up what nobody goes on with.
	abortTimeout = 500 * time.Millisecond
)

// transaction runs operations as one: all of them, with a majority, or none. Where
// two transactions write to one document, one is run again. operations may run
// several times, and must hand its context on.
//
// The driver's own WithTransaction is not used: it repeats a commit for as long as
// the client's time-out, although the way may be denied meanwhile.
func (s *Store) transaction(ctx context.Context, operations func(ctx context.Context) error) error {
	session, err := s.client.StartSession()
	if err != nil {
		return err
	}
	defer session.EndSession(context.WithoutCancel(ctx))
	how := options.Transaction().SetReadConcern(readconcern.Snapshot()).SetWriteConcern(writeconcern.Majority())
	pause := firstConflictPause
	for {
		if err := session.StartTransaction(how); err != nil {
			return err
		}
		err := operations(mongo.NewSessionContext(ctx, session))
		if err == nil {
			err = session.CommitTransaction(ctx)
		} else {
			bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
			_ = session.AbortTransaction(bound)
			cancel()
		}
		if !conflicting(err) || !wait(ctx, pause, nil) {
			return err
		}
		pause = min(2*pause, maxConflictPause)
	}
}

// conflicting reports whether a transaction lost against another one, and has not
// been done.
func conflicting(err error) bool {
	var answer mongo.ServerError
	if !errors.As(err, &answer) || !answer.HasErrorLabel("TransientTransactionError") {
		return false
	}
	// LockTimeout, WriteConflict, SnapshotUnavailable, NoSuchTransaction.
	return slices.ContainsFunc([]int{24, 112, 246, 251}, answer.HasErrorCode)
}

// guard is a document that every transaction of a kind writes to, so that of two at
// once one sees what the other did. It is ErrNotFound if filter selects none.
func guard(ctx context.Context, collection *mongo.Collection, filter bson.D) error {
	result, err := collection.UpdateOne(ctx, filter, bson.D{{Key: "$inc", Value: bson.D{{Key: "guarded", Value: int64(1)}}}})
	if err == nil && result.MatchedCount == 0 {
		return ErrNotFound
	}
	return err
}
